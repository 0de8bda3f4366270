"""Training at toy size: what is learnt and kept, resuming, mirrors, the command's messages."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.evaluation import by_track, evaluate
from featurestore.errors import UsageError
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.factories import make_store
from tests.training_cases import DEVICE, GENRES, SPEC, settings_of
from training import fit
from training.backend import keras, tensorflow
from training.results import report, saved
from training.run import callbacks, loop
from training.shards.check import DataSet, open_data
from training.shards.export import export

pytest_plugins = ("tests.training_cases",)


@pytest.mark.parametrize("name", ["cnn", "mlp", "raw_cnn"])
def test_networks_learn_what_can_be_learnt(trained: dict[str, loop.Fitted], name: str) -> None:
    """Chance is 0.33; the test artists were never heard."""
    found = trained[name].evaluation
    assert found.chance == pytest.approx(1 / 3)
    assert found.accuracy.value >= 0.8
    assert found.accuracy.low > found.chance


def test_a_run_leaves_its_report_and_card(trained: dict[str, loop.Fitted], sets: dict[str, DataSet]) -> None:
    folder, side = Path(trained["cnn"].folder), sets["mel"].sidecar
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "model.keras",
        "card.json",
        "metrics.json",
        "history.csv",
        "curves.png",
        "confusion.png",
        "logs",
        "state",
    }
    card = json.loads((folder / "card.json").read_text())
    assert card["classes"] == list(GENRES)
    assert card["spec"] == SPEC.as_dict()
    assert card["facts"]["data"]["store"]["content"] == side.store["content"]
    facts = json.loads((folder / "metrics.json").read_text())
    history = trained["cnn"].history
    assert [r["epoch"] for r in history] == list(range(1, len(history) + 1))
    best = min(history, key=lambda r: r["val_loss"])
    assert facts["best_epoch"] == best["epoch"] == card["facts"]["best_epoch"]
    assert facts["gap_at_best_epoch"] == pytest.approx(best["accuracy"] - best["val_accuracy"], abs=1e-4)
    assert np.sum(facts["test"]["confusion"]) == facts["test"]["n"] == 12
    for run in ("train", "validation"):
        (log,) = (folder / "logs" / run).iterdir()
        events = list(tensorflow().compat.v1.train.summary_iterator(str(log)))
        tags = [(e.step, v.tag) for e in events for v in e.summary.value]
        assert [step for step, tag in tags if tag == "epoch_accuracy"] == list(range(len(history)))


def test_the_saved_model_is_the_best_epochs(trained: dict[str, loop.Fitted], sets: dict[str, DataSet]) -> None:
    done = trained["cnn"]
    model, card = saved.load(done.folder)
    again = loop.evaluate_saved(model, card, sets["mel"], "test")
    assert again.as_dict() == done.evaluation.as_dict()
    validation = loop.evaluate_saved(model, card, sets["mel"], "validation")
    best = next(r for r in done.history if r["epoch"] == done.best_epoch)
    assert validation.excerpt_accuracy == pytest.approx(best["val_accuracy"])


class _Killed(Exception):
    pass


def _killed_run(data: DataSet, settings: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Train until so many epochs are kept, and die in the next one."""
    real = callbacks._note

    def dying(epoch: int, logs: Any, better: bool) -> None:
        real(epoch, logs, better)
        if epoch > epochs:
            raise _Killed

    with monkeypatch.context() as patched:
        patched.setattr(callbacks, "_note", dying)
        with pytest.raises(_Killed):
            loop.fit(data, settings, output=str(folder), device=DEVICE)


def test_an_interrupted_run_goes_on_after_its_last_epoch(
    sets: dict[str, DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = sets["features"], tmp_path / "cut"
    # without dropout's random numbers a run that goes on is the undisturbed one
    settings = settings_of("mlp", width=8, epochs=5, batch_size=12, mixup=0.3, deterministic=True, seed=11)
    monkeypatch.setattr(keras().layers, "Dropout", lambda rate: keras().layers.Activation("linear"))
    whole = loop.fit(data, settings, output=str(tmp_path / "whole"), device=DEVICE)
    _killed_run(data, settings, folder, monkeypatch, epochs=2)
    _, card = saved.load(str(folder))  # the best epoch is there as a model
    assert (card.facts["best_epoch"], card.evaluation) == (3, {})
    with pytest.raises(UsageError, match="holds an interrupted run of 2 epochs") as caught:
        loop.fit(data, settings, output=str(folder), device=DEVICE)
    assert "--resume" in str(caught.value)
    assert "--restart" in str(caught.value)
    other = dataclasses.replace(settings, batch_size=6)
    with pytest.raises(UsageError, match="batch_size: 12 then, 6 now"):
        loop.fit(data, other, output=str(folder), device=DEVICE, resume=True)
    resumed = loop.fit(data, settings, output=str(folder), device=DEVICE, resume=True)
    for a, b in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, rel=1e-4
        )
    again = loop.fit(data, settings, output=str(folder), device=DEVICE, resume=True)  # finished: nothing is trained
    assert again.history == resumed.history
    capsys.readouterr()
    restarted = loop.fit(data, other, output=str(folder), device=DEVICE, restart=True)
    assert len(restarted.history) == 5
    assert "anew" not in capsys.readouterr().err


def test_resume_before_the_first_epoch_begins_anew(
    sets: dict[str, DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of("mlp", width=4, epochs=2)
    _killed_run(sets["features"], settings, tmp_path, monkeypatch, epochs=0)
    done = loop.fit(sets["features"], settings, output=str(tmp_path), device=DEVICE, resume=True)
    assert "no epoch was saved yet; the run begins anew" in capsys.readouterr().err
    assert len(done.history) == 2


def test_fine_tuning_goes_on_in_its_own_stage(
    sets: dict[str, DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stages of a small network, as mobilenet has them; killed in the second."""
    stages = [loop.Stage(2, 1e-3, False), loop.Stage(3, 1e-4, True)]
    monkeypatch.setattr(loop, "stages_of", lambda settings: stages)
    settings = settings_of("mlp", width=4, epochs=2)
    _killed_run(sets["features"], settings, tmp_path, monkeypatch, epochs=3)
    done = loop.fit(sets["features"], settings, output=str(tmp_path), device=DEVICE, resume=True)
    assert [r["epoch"] for r in done.history] == [1, 2, 3, 4, 5]
    assert max(r["learning_rate"] for r in done.history[2:]) <= 1e-4


def test_memorised_random_labels_show_as_a_gap(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "s"), tracks=90, spec=SPEC, signal=0.0, artist_signal=0.0, arrays_too=False)
    export(store, kind="features", output=str(tmp_path))
    settings = settings_of("mlp", width=128, epochs=30, patience=30)
    done = loop.fit(open_data(str(tmp_path / "features")), settings, output=str(tmp_path / "m"), device=DEVICE)
    last = done.history[-1]
    assert last["accuracy"] > 0.95
    assert last["val_accuracy"] < 0.6
    assert "learns by heart" in report.verdict(done.history)
    assert done.evaluation.accuracy.low < 0.5
    assert json.loads((tmp_path / "m/metrics.json").read_text())["gap_at_last_epoch"] > 0.4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["cnn", "--data", "{home}/tf/features"], 2, "cnn trains on mel records, {home}/tf/features holds features"),
        (["mlp", "--data", "{home}/tf/wave"], 2, "python -m training.export_tfrecords --kind features"),
        (["raw_cnn", "--data", "{tmp}/none"], 1, "export_tfrecords --kind wave"),
        (["cnn", "--data", "{tmp}/none", "--store", "{tmp}/no-store"], 1, "no feature store at"),
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
    data[len(data) * 34 // 36 - 300] ^= 1  # in the last but two of its 36 records
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
    said = re.search(r"(\d+) damaged records of the training split are left out", capsys.readouterr().err)
    assert said
    card = json.loads((tmp_path / "m/card.json").read_text())
    assert card["facts"]["data"]["damaged_records_left_out"]["training"] == int(said[1]) == 3
    assert cli.run(fit.main, [*arguments, "--store", "none", "--verify", "size"]) == 1
    stopped = capsys.readouterr().err
    assert f"{shard}: the shard is damaged" in stopped
    assert "--verify hash" in stopped
    assert not re.search(r"function_node|Traceback|Op:|__wrapped", stopped)


def test_curves_name_model_and_data(trained: dict[str, loop.Fitted], monkeypatch: pytest.MonkeyPatch) -> None:
    done = trained["mlp"]
    seen: list[str] = []
    real = report.curves

    def spy(history: list[dict[str, float]], title: str) -> Any:
        figure = real(history, title)
        seen.append(figure.get_suptitle())
        return figure

    monkeypatch.setattr(report, "curves", spy)
    for title in ("mlp on data/tfrecords/features", "mlp on " + "far/" * 60 + "features"):
        report.write(done.folder, done.evaluation, done.history, title=title)
    assert seen[0] == "mlp on data/tfrecords/features"
    assert len(seen[1]) == report.LONGEST_TITLE
    assert seen[1].startswith("mlp on far/")
    assert seen[1].endswith("far/features")


def test_genres_and_titles_are_drawn_as_they_are_spelt(tmp_path: Path) -> None:
    """The last genre is no formula that matplotlib could read."""
    ids = np.arange(6)
    scored = by_track(ids, ids % 3, ids, np.eye(3)[ids % 3])
    evaluation = evaluate(scored, ("Ca$$h Rap", "$uicide$", "$\\frac{a$"), split="test", scheme="artist")
    row = {"epoch": 1.0, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    report.write(str(tmp_path), evaluation, [row], title="mlp on $\\frac{a$")
    report.write_evaluation(str(tmp_path), evaluation)
    assert {p.name for p in tmp_path.glob("*.png")} == {"confusion.png", "curves.png", "test_confusion.png"}
