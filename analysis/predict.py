"""Which genre is this? Answers of a kept model, with calibrated probabilities and "unknown" where it is not sure.

With audio files, each is decoded and measured with the very spec the model learnt from. Without files, the tracks of
the store that have no genre are answered from their stored features; where every track has one, the tracks of the
split that the model was reported on, with the true genre beside the answer.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.models import persist
from analysis.models.persist import Saved
from analysis.results import output
from featurestore import registry
from featurestore.datasets import AUDIO_SUFFIXES, encode_name
from featurestore.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_PARTIAL,
    AudioError,
    FeatureStoreError,
    MissingInput,
    SpecMismatch,
)
from featurestore.spec import Spec
from featurestore.store.store import OWN_SET, Store, default_scheme
from featurestore.terminal import cli, progress, tables, words

DEFAULT_MODEL = "models/compare"
UNKNOWN = "unknown"
SHOWN = 3  # likeliest genres in a row


@dataclasses.dataclass(frozen=True)
class Predictions:
    """rows: one per file or track (name, answer, confidence, likeliest, excerpts, and truth for stored tracks);
    failures: file -> what was wrong with it; types: the types found in the model file beyond skops' own list."""

    rows: list[dict[str, Any]]
    failures: Mapping[str, str]
    types: tuple[str, ...]
    threshold: float

    @property
    def table(self) -> pa.Table:
        """The rows as an Arrow table."""
        return output.table(self.rows, ("name", "answer", "confidence", "likeliest", "excerpts"))


def predict_files(model: str, paths: Sequence[str], *, threshold: float | None = None) -> Predictions:
    """Answer audio files (or folders of them) with the model in folder `model`; threshold replaces the card's.

    Raises MissingInput (no model, no audio in a folder), SpecMismatch (made by other feature code), FeatureStoreError
    (unsafe or damaged file, or a model of an imported set, whose values cannot be measured from audio).
    """
    from featurestore.measure.file import measure_file

    saved = persist.load(model)
    spec, columns = audio_spec(saved, model)
    rows, failures = [], {}
    limit = saved.card["threshold"] if threshold is None else threshold
    files = audio_files(paths)
    with progress.bar("predict", len(files)) as bar:
        for path in files:
            try:
                _, measured = measure_file(path, spec)
                X = np.stack([found.features for _, found in measured])[:, columns]
                rows.append(_row(encode_name(path), saved.probabilities(X), saved.card["classes"], limit))
            except AudioError as error:
                failures[path] = f"{error.stage}: {error.kind}: {error.message}"
            bar.advance()
    return Predictions(rows, failures, saved.types, limit)


def audio_files(paths: Sequence[str]) -> list[str]:
    """The paths, each folder replaced by the audio files below it, sorted. Raises MissingInput for one without any."""
    out: list[str] = []
    for path in paths:
        if not os.path.isdir(path):
            out.append(path)
            continue
        found = sorted(str(p) for p in Path(path).rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
        if not found:
            raise MissingInput(
                f"{path}: no audio file in this folder", "Name audio files, or a folder that holds some."
            )
        out += found
    return out


def audio_spec(saved: Saved, model: str) -> tuple[Spec, list[int]]:
    """The spec to measure audio with, and where the model's columns lie among what it measures."""
    card = saved.card
    if card["features"] != OWN_SET or card["spec"] is None:
        raise FeatureStoreError(
            f"model {model} learnt from the imported set {card['features']!r}, which audio cannot be measured for",
            "Give no files to answer stored tracks, or make a model of measured features: "
            f"`python -m analysis.compare --features {OWN_SET}`.",
        )
    spec = Spec.from_dict(card["spec"])
    if spec.fingerprint != card.get("spec_fingerprint"):
        raise SpecMismatch(
            f"model {model}: the card claims spec {card.get('spec_fingerprint')}, but holds spec {spec.fingerprint}",
            "The card was edited; run `python -m analysis.compare` again.",
        )
    now = dataclasses.replace(spec, extractor=Spec().extractor)
    now.require(spec, here="this toolkit", there=f"model {model}")
    return spec, _positions(registry.column_names(spec.groups), card["columns"], model)


def _positions(have: Sequence[str], wanted: Sequence[str], model: str) -> list[int]:
    at = {name: j for j, name in enumerate(have)}
    missing = [name for name in wanted if name not in at]
    if missing:
        raise SpecMismatch(
            f"model {model} expects {len(wanted)} columns; {len(missing)} are not there, first {missing[0]!r}",
            "Answer with the store and set the model was made from, or run `python -m analysis.compare` again.",
        )
    return [at[name] for name in wanted]


def predict_stored(model: str, store: Store, *, threshold: float | None = None) -> Predictions:
    """Answer the store's unlabelled tracks; where there are none, those of the split the model was reported on.

    Raises as `predict_files`, and SpecMismatch where the store was measured with other numbers than the model.
    """
    import warehouse

    saved = persist.load(model)
    card = saved.card
    if card["spec"] is not None:
        Spec.from_dict(card["spec"]).require(store.spec, here=f"model {model}", there=f"store {store.url}")
    m = warehouse.matrix(store, features=card["features"], labelled=False)
    mask = np.array([y is None for y in m.y])
    if not mask.any():
        split = card["split"]
        scheme = split["scheme"] or default_scheme(store)
        m = warehouse.matrix(store, features=card["features"], split=split["reported"], scheme=scheme)
        mask = np.ones(len(m.y), bool)
    X = m.X[mask][:, _positions(m.columns, card["columns"], model)]
    probabilities = saved.probabilities(np.where(np.isfinite(X), X, np.float32("nan")))
    ids, first, which = np.unique(m.track_ids[mask], return_index=True, return_inverse=True)
    limit = card["threshold"] if threshold is None else threshold
    truth = m.y[mask][first]
    rows = []
    for n, i in enumerate(ids):
        row = _row("", probabilities[which == n], card["classes"], limit)
        del row["name"]
        rows.append({"track_id": int(i), **row, "truth": truth[n]})
    return Predictions(rows, {}, saved.types, limit)


def _row(name: str, probabilities: np.ndarray, classes: Sequence[str], threshold: float) -> dict[str, Any]:
    """One answer from the excerpts' probabilities (n, classes), averaged."""
    p = probabilities.mean(axis=0)
    order = np.argsort(-p, kind="stable")
    likeliest = ", ".join(f"{classes[j]} {p[j]:.2f}" for j in order[:SHOWN])
    return {
        "name": name,
        "answer": classes[order[0]] if p[order[0]] >= threshold else UNKNOWN,
        "confidence": round(float(p[order[0]]), 6),
        "likeliest": likeliest,
        "excerpts": len(probabilities),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, predict, print. Exit code 3 where some files failed, 1 where all did."""
    parser = cli.Parser(prog="python -m analysis.predict", description=__doc__)
    parser.add_argument("model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL, help="folder of a kept model")
    parser.add_argument("files", metavar="FILE", nargs="*", help="audio files or folders; none: tracks of the store")
    cli.add_store(parser)
    parser.add_argument(
        "--threshold", type=float, default=None, metavar="P", help="answer from this confidence on; the card's"
    )
    cli.add_format(parser)
    args = parser.parse_args(argv)
    if args.files:
        found = predict_files(args.model, args.files, threshold=args.threshold)
    else:
        found = predict_stored(args.model, Store.open(args.store), threshold=args.threshold)
    tables.emit(found.table, args.format)
    words.note(f'"{UNKNOWN}" below confidence {found.threshold:.2f}; excerpts of a track are averaged')
    words.note(f"types loaded beyond skops' own safe list: {', '.join(found.types) or 'none'}")
    for path, message in found.failures.items():
        words.note(f"failed: {path}: {message}")
    if found.failures:
        return EXIT_PARTIAL if found.rows else EXIT_FAILED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
