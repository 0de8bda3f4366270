"""Training at toy size: what is learnt and kept, resuming, mirrors, the command's messages."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore.errors import UsageError
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.conftest import ROOT
from tests.factories import make_store
from tests.training_cases import DEVICE, GENRES, SPEC, settings_of
from training import fit
from training.backend import tensorflow
from training.feed.dataset import DataSet, open_data
from training.results import report, saved
from training.run import callbacks, loop
from training.shards.export import export

pytest_plugins = ("tests.training_cases",)


@pytest.mark.parametrize("name", ["cnn", "mlp", "raw_cnn"])
def test_networks_learn_what_can_be_learnt(trained: dict[str, loop.Fitted], name: str) -> None:
    """Chance is 0.33; the test artists were never heard."""
    found = trained[name].evaluation
    assert found.chance == pytest.approx(1 / 3)
    assert found.accuracy >= 0.8
    assert found.accuracy_interval[0] > found.chance


def test_a_run_leaves_its_report_and_card(trained: dict[str, loop.Fitted], sets: dict[str, DataSet]) -> None:
    folder, side = Path(trained["cnn"].folder), sets["mel"].sidecar
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "model.keras",
        "card.json",
        "metrics.json",
        "history.json",
        "curves.png",
        "confusion.png",
        "logs",
        "state.npz",
    }
    card = json.loads((folder / "card.json").read_text())
    assert card["classes"] == list(GENRES)
    assert card["spec"] == SPEC.as_dict()
    assert card["data"]["store"]["content"] == side.store["content"]
    facts = json.loads((folder / "metrics.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    best = min(history, key=lambda r: r["validation_loss"])
    assert facts["best_epoch"] == best["epoch"] == card["best_epoch"]
    assert facts["gap_at_best_epoch"] == pytest.approx(
        best["training_accuracy"] - best["validation_accuracy"], abs=1e-4
    )
    assert np.sum(facts["test"]["confusion"]) == facts["test"]["tracks"] == 12
    (log,) = (folder / "logs").iterdir()
    steps = [e.step for e in tensorflow().compat.v1.train.summary_iterator(str(log))]
    assert steps == [0, *(r["epoch"] for r in history)]


def test_the_saved_model_is_the_best_epochs(trained: dict[str, loop.Fitted], sets: dict[str, DataSet]) -> None:
    done = trained["cnn"]
    model, card = saved.load(done.folder)
    again = loop.evaluate_saved(model, card, sets["mel"], "test")
    assert again.as_dict() == done.evaluation.as_dict()
    validation = loop.evaluate_saved(model, card, sets["mel"], "validation")
    best = next(r for r in done.history if r["epoch"] == done.best_epoch)
    assert validation.excerpt_accuracy == pytest.approx(best["validation_accuracy"])


class _Killed(Exception):
    pass


def test_a_resumed_run_ends_as_an_undisturbed_one(
    sets: dict[str, DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after two of four epochs; dropout, mixup, batch statistics, schedule and data order included."""
    settings = settings_of("mlp", width=8, epochs=4, batch_size=12, mixup=0.3, deterministic=True, seed=11)
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_STATES", 0.0)
    whole = loop.fit(sets["features"], settings, output=str(tmp_path / "whole"), device=DEVICE)
    real, calls = callbacks.State.write, []

    def dying(state: callbacks.State, folder: str) -> None:
        real(state, folder)
        calls.append(state.epoch)
        if state.epoch == 2:
            raise _Killed

    monkeypatch.setattr(callbacks.State, "write", dying)
    with pytest.raises(_Killed):
        loop.fit(sets["features"], settings, output=str(tmp_path / "cut"), device=DEVICE)
    assert calls == [1, 2]
    monkeypatch.setattr(callbacks.State, "write", real)
    resumed = loop.fit(sets["features"], settings, output=str(tmp_path / "cut"), device=DEVICE, resume=True)
    for a, b in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    with np.load(tmp_path / "whole/state.npz") as a, np.load(tmp_path / "cut/state.npz") as b:
        assert all(np.array_equal(a[k], b[k]) for k in a.files if k != "facts")
    other = dataclasses.replace(settings, batch_size=6)
    with pytest.raises(UsageError, match="batch_size: 12 then, 6 now"):
        loop.fit(sets["features"], other, output=str(tmp_path / "cut"), device=DEVICE, resume=True)


def test_memorised_random_labels_show_as_a_gap(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=90, spec=SPEC, signal=0.0, artist_signal=0.0, arrays_too=False)
    export(store, kind="features", output=str(tmp_path))
    settings = settings_of("mlp", width=128, epochs=30, patience=30)
    done = loop.fit(open_data(str(tmp_path / "features")), settings, output=str(tmp_path / "m"), device=DEVICE)
    last = done.history[-1]
    assert last["training_accuracy"] > 0.95
    assert last["validation_accuracy"] < 0.6
    assert "learns by heart" in report.verdict(done.history, done.best_epoch)
    assert done.evaluation.accuracy_interval[0] < 0.5
    assert json.loads((tmp_path / "m/metrics.json").read_text())["gap_at_last_epoch"] > 0.4


def test_two_virtual_devices_train_as_mirrors(home: Path, tmp_path: Path) -> None:
    """On uint8, which each device casts by itself."""
    export(Store.open(str(home / "s")), output=str(tmp_path / "tf"), dtype="uint8", shards=2)
    command = [
        sys.executable,
        "-m",
        "training.fit",
        "cnn",
        "--data",
        str(tmp_path / "tf"),
        "--store",
        str(home / "s"),
        "--device",
        "cpu:2",
        "--epochs",
        "1",
        "--width",
        "4",
        "--mixup",
        "0",
        "--batch-size",
        "6",
        "--output",
        str(tmp_path / "m"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "CPU, 2 virtual devices; float32; batch 6 x 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "m/model.keras").is_file()
    noise = [x for x in done.stderr.splitlines() if re.search(r"WARNING|INFO:|oneDNN|cuda|E0000|I0000", x)]
    assert not noise, noise


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["cnn", "--data", "{home}/tf/features"], 2, "cnn trains on mel records, {home}/tf/features holds features"),
        (["mlp", "--data", "{home}/tf/wave"], 2, "python -m training.export_tfrecords --kind features"),
        (["raw_cnn", "--data", "{tmp}/none"], 1, "export_tfrecords --kind wave"),
        (["cnn", "--data", "{tmp}/none", "--store", "{tmp}/no-store"], 1, "no feature store at"),
        (["mlp", "--data", "{home}/tf", "--resume", "--output", "{tmp}/m"], 1, "no interrupted run"),
        (["mlp", "--data", "{home}/tf", "--device", "gpu:9"], 2, "TensorFlow sees"),
        (["mlp", "--data", "{home}/tf", "--device", "abacus"], 2, "unknown device 'abacus'"),
        (["mlp", "--data", "{home}/tf", "--label-smoothing", "3"], 2, "--label-smoothing must be between"),
    ],
)
def test_fit_says_what_to_do(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert cli.run(fit.main, [a.format(home=home, tmp=tmp_path) for a in arguments]) == code
    assert message.format(home=home) in capsys.readouterr().err


def test_fit_says_how_many_records_were_damaged(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(Store.open(str(home / "s")), kind="features", output=str(tmp_path / "tf"), shards=1)
    shard = next((tmp_path / "tf/features").glob("training-*"))
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(bytes(data))
    arguments = [
        "mlp",
        "--data",
        str(tmp_path / "tf"),
        "--epochs",
        "1",
        "--width",
        "4",
        "--output",
        str(tmp_path / "m"),
    ]
    assert cli.run(fit.main, [*arguments, "--store", "none"]) == 0
    assert "1 damaged records of the training split are left out" in capsys.readouterr().err
    card = json.loads((tmp_path / "m/card.json").read_text())
    assert card["data"]["damaged_records_left_out"]["training"] == 1
    for compression in ("none", "gzip"):
        assert cli.run(fit.main, [*arguments, "--store", "none", "--verify", "size"]) == 1
        said = capsys.readouterr().err
        assert f"{shard}: the shard is damaged (" in said, compression
        assert "--verify hash" in said
        assert not re.search(r"function_node|Traceback|Op:|__wrapped", said)
        if compression == "none":
            assert "record at byte 0: the checksum of its" in said
            export(
                Store.open(str(home / "s")), kind="features", output=str(tmp_path / "tf"), shards=1, compression="gzip"
            )
            data = bytearray(shard.read_bytes())
            data[len(data) // 2] ^= 1
            shard.write_bytes(bytes(data))


def test_curves_name_model_and_data(trained: dict[str, loop.Fitted], monkeypatch: pytest.MonkeyPatch) -> None:
    done = trained["mlp"]
    seen: list[str] = []
    real = report.curves

    def spy(history: list[dict[str, float]], best_epoch: int, title: str) -> Any:
        figure = real(history, best_epoch, title)
        seen.append(figure.get_suptitle())
        return figure

    monkeypatch.setattr(report, "curves", spy)
    for title in ("mlp on data/tfrecords/features", "mlp on " + "far/" * 60 + "features"):
        report.write(done.folder, done.evaluation, done.history, done.best_epoch, title=title)
    assert seen[0] == "mlp on data/tfrecords/features"
    assert len(seen[1]) == report.LONGEST_TITLE
    assert seen[1].startswith("mlp on far/")
    assert seen[1].endswith("far/features")
