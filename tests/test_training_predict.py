"""Saved models: evaluated, asked about audio files, refused where they do not fit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from analysis.evaluation import save_model
from featurestore.errors import FeatureStoreError, MissingInput, SpecMismatch
from featurestore.spec import Spec
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.factories import make_store
from tests.training_cases import GENRES, SPEC, card_of
from training import evaluate, predict
from training.backend import keras
from training.results import predictor, saved
from training.run import loop
from training.shards.check import open_data
from training.shards.export import export
from training.shards.sidecar import DataMismatch

pytest_plugins = ("tests.training_cases",)


def _tone(path: Path, hz: float, seconds: float = 2.5) -> None:
    t = np.arange(int(seconds * 22050)) / 22050
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * t) + np.random.default_rng(0).normal(0, 0.02, len(t)), 22050)


def test_predict_hears_what_it_learnt(
    trained: dict[str, loop.Fitted], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The factory's genres are tones of 220, 440 and 660 Hz."""
    for name, hz in ((b"220.wav", 220), (b"660.wav", 660), (b"caf\xe9.wav", 440)):  # the last is not UTF-8
        _tone(tmp_path / "tone.wav", hz)
        (tmp_path / "tone.wav").rename(tmp_path / os.fsdecode(name))
    (tmp_path / "broken.wav").write_bytes(b"RIFF....")
    (tmp_path / "notes.txt").write_text("not audio by its suffix")
    model = str(Path(trained["raw_cnn"].folder) / "model.keras")
    arguments = [model, str(tmp_path), "--store", str(home / "s"), "--format", "json", "--threshold", "0", "--scores"]
    assert cli.run(predict.main, arguments) == 3
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert [(Path(r["path"]).name, r["genre"]) for r in rows] == [
        ("220.wav", "Ambient"),
        ("660.wav", "Choral"),
        (r"caf\xe9.wav", "Blues"),
    ]
    assert "broken.wav" in err
    assert all(abs(sum(v for k, v in r.items() if k.startswith("score_")) - 1) < 0.001 for r in rows)
    assert cli.run(predict.main, [*arguments[:-3], "--threshold", "1", "--format", "csv"]) == 3
    assert capsys.readouterr().out.count(",unknown,") == 3
    assert cli.run(predict.main, [model, str(tmp_path / "broken.wav"), "--store", str(home / "s")]) == 1


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_predict_measures_what_each_network_eats(trained: dict[str, loop.Fitted], tmp_path: Path, name: str) -> None:
    _tone(tmp_path / "a.wav", 440, 1.0)
    model, card = saved.load(trained[name].folder)
    found = predictor.predict(model, card, [str(tmp_path / "a.wav")], every_score=True)
    (row,) = found.rows
    assert list(row)[:6] == ["path", "genre", "confidence", "likeliest", "excerpts", f"score_{GENRES[0]}"]
    from featurestore.audio.decode import decode
    from featurestore.extract import extract

    measured = extract(decode(str(tmp_path / "a.wav"), SPEC)[0].y, SPEC)
    array = measured.features if name == "mlp" else measured.mel.T
    expected = model.predict_on_batch(np.stack(list(predictor.windows_of(card, array)))).mean(axis=0)
    assert np.allclose([row[f"score_{g}"] for g in card.classes], expected, atol=1e-4)


def test_a_model_of_another_spec_is_refused(trained: dict[str, loop.Fitted], tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "s"), Spec(n_mels=16, excerpt_seconds=1.0, wave_seconds=1.0, hop_length=256))
    _, card = saved.load(trained["cnn"].folder)
    with pytest.raises(SpecMismatch, match=r"hop_length: store .* has 256, the model cnn has 512"):
        predictor.require_same_spec(card, store)
    predictor.require_same_spec(card, None)
    with pytest.raises(SpecMismatch, match="extractor: this version of the toolkit has 1, the model cnn has 7"):
        predictor.require_same_spec(card_of(spec=Spec(extractor=7)), None)


def test_evaluate_prints_the_figures_and_refuses_other_shards(
    trained: dict[str, loop.Fitted], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained["mlp"].folder
    common = ["--data", str(home / "tf"), "--store", str(home / "s")]
    assert cli.run(evaluate.main, [model, *common, "--format", "json", "--output", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert [r["genre"] for r in json.loads(out)] == list(GENRES)
    assert f"accuracy {trained['mlp'].evaluation.accuracy.text()}" in err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"test.json", "test_confusion.png"}
    other = make_store(str(tmp_path / "o"), tracks=30, spec=SPEC, genres=("A", "B", "C"), arrays_too=False)
    export(other, kind="features", output=str(tmp_path / "tf"))
    loaded, card = saved.load(model)
    with pytest.raises(DataMismatch, match=r"expects classes \('Ambient'"):
        loop.evaluate_saved(loaded, card, open_data(str(tmp_path / "tf/features")), "test")


def _copy(source: str, folder: Path) -> None:
    for name in ("model.keras", "card.json"):
        (folder / name).write_bytes((Path(source) / name).read_bytes())


def test_model_and_card_must_belong_together(trained: dict[str, loop.Fitted], tmp_path: Path) -> None:
    _copy(trained["mlp"].folder, tmp_path)
    saved.load(str(tmp_path / "model.keras"))
    (tmp_path / "model.keras").write_bytes((Path(trained["cnn"].folder) / "model.keras").read_bytes())
    with pytest.raises(FeatureStoreError, match="its card expects SHA-256"):
        saved.load(str(tmp_path))
    with pytest.raises(MissingInput, match="never_trained"):
        saved.load("never_trained")


def test_an_edited_card_is_refused(trained: dict[str, loop.Fitted], tmp_path: Path) -> None:
    _copy(trained["mlp"].folder, tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(card | {"threshold": 0.01}))
    with pytest.raises(FeatureStoreError, match="the card was edited"):
        saved.load(str(tmp_path))


def test_a_model_with_code_in_it_is_not_loaded(trained: dict[str, loop.Fitted], tmp_path: Path) -> None:
    k = keras()
    evil = k.Sequential([k.Input((2,)), k.layers.Lambda(lambda x: x)])
    evil.save(tmp_path / "evil.keras")
    _, card = saved.load(trained["mlp"].folder)
    save_model(str(tmp_path), "model.keras", (tmp_path / "evil.keras").read_bytes(), card)
    with pytest.raises(FeatureStoreError, match="Keras cannot load it"):
        saved.load(str(tmp_path))
