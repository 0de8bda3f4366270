"""Cards of kept models: read as written, and refused with a reason where edited, damaged or of another model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.evaluation import UNKNOWN, Answers, Card, answer, find_model, load_model, save_model
from analysis.evaluation.card import CARD_FILE, seal
from featurestore.errors import FeatureStoreError, MissingInput, SpecMismatch
from featurestore.spec import Spec

CARD = Card(
    name="svm",
    kind="features",
    classes=("Jazz", "Rock"),
    threshold=0.4,
    feature_set="librosa",
    columns=("a", "b"),
    spec=Spec(),
    evaluation={"accuracy": 0.5},
    versions={"python": "3"},
    facts={"setting": "C=1"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(str(tmp_path / "m"), "model.bin", b"model", CARD)
    return tmp_path / "m"


def load(folder: Path) -> tuple[Card, bytes]:
    return load_model(str(folder), "model.bin", "python -m analysis.compare")


def edit(folder: Path, change: Callable[[dict[str, Any]], Any], sealed: bool) -> None:
    values = json.loads((folder / CARD_FILE).read_text())
    change(values)
    (folder / CARD_FILE).write_text(json.dumps(values | ({"seal": seal(values)} if sealed else {})))


def test_a_card_is_read_as_it_was_written(folder: Path) -> None:
    assert load(folder) == (CARD, b"model")
    assert load_model(str(folder / "model.bin"), "model.bin", "x")[0] == CARD


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["classes"].reverse(),
        lambda v: v["columns"].reverse(),
        lambda v: v.update(threshold=0.1),
        lambda v: v["evaluation"].update(accuracy=0.99),
    ],
    ids=["classes", "columns", "threshold", "evaluation"],
)
def test_an_edited_card_is_refused(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    edit(folder, change, sealed=False)
    with pytest.raises(FeatureStoreError, match="was edited after the model was kept"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "Jazz"}, 'classes: expected a list of names, found "Jazz"'),
        ({"classes": ["Jazz", 7]}, "classes: expected a list of names"),
        ({"classes": ["Jazz"]}, "at least two different names"),
        ({"threshold": "high"}, 'threshold: expected a number from 0 to 1, found "high"'),
        ({"threshold": 7}, "threshold: expected a number from 0 to 1, found 7"),
        ({"threshold": True}, "threshold: expected a number"),
        ({"window": 1.5}, "window: expected a whole number or null"),
        ({"spec": []}, "spec: expected an object or null"),
        ({"spec": {"x": 1}}, "unknown fields"),
        ({"model_sha256": None}, "model_sha256: expected text"),
        ({"format": 1}, "expected card format 2, found 1"),
        ({"model_sha256": "0" * 64}, "expects SHA-256 0000"),
    ],
)
def test_wrong_values_are_named(folder: Path, change: dict[str, Any], message: str) -> None:
    edit(folder, lambda v: v.update(change), sealed=True)
    with pytest.raises(FeatureStoreError, match=message) as caught:
        load(folder)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["classes", "threshold", "seal", "spec"])
def test_what_is_missing_is_named(folder: Path, name: str) -> None:
    edit(folder, lambda v: v.pop(name), sealed=False)
    with pytest.raises(FeatureStoreError, match=f"lacks {name}"):
        load(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", "nan", "[" * 100_000])
def test_what_is_no_card_is_said(folder: Path, text: str) -> None:
    (folder / CARD_FILE).write_text(text)
    with pytest.raises(FeatureStoreError, match="card"):
        load(folder)


def test_missing_files_name_the_command(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"other")
    with pytest.raises(FeatureStoreError, match="SHA-256"):
        load(folder)
    (folder / CARD_FILE).unlink()
    with pytest.raises(MissingInput, match=r"analysis\.compare"):
        load(folder)
    with pytest.raises(MissingInput, match="no model at nowhere"):
        find_model("nowhere", "model.bin", "x")


def test_columns_are_found_by_name(folder: Path) -> None:
    assert load(folder)[0].positions(["b", "c", "a"]) == [2, 0]
    with pytest.raises(SpecMismatch, match="1 are not there, first 'b'"):
        CARD.positions(["a"])


def test_answers_average_excerpts_and_say_unknown_below_the_threshold() -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.1, 0.1, 0.8]])
    row = answer(scores, ("a", "b", "c"), 0.6, every_score=True)
    assert row["genre"] == "c"
    assert row["confidence"] == pytest.approx(0.6)
    assert row["likeliest"] == "c 0.60, b 0.30, a 0.10"
    assert (row["excerpts"], row["score_b"]) == (2, 0.3)
    assert answer(scores, ("a", "b", "c"), 0.61)["genre"] == UNKNOWN


def test_the_exit_code_says_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": "a.wav", **answer(np.array([[1.0, 0.0]]), ("x", "y"), 0.5)}]
    assert Answers(rows, {}, 0.5).report("csv") == 0
    assert capsys.readouterr().out.splitlines()[0] == "path,genre,confidence,likeliest,excerpts"
    assert Answers(rows, {"b.wav": "empty"}, 0.5).report() == 3
    assert "failed: b.wav: empty" in capsys.readouterr().err
    assert Answers([], {"b.wav": "empty"}, 0.5).report() == 1
