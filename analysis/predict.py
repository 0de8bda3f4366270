"""Which genre is this? Answers of a kept model, with calibrated probabilities and "unknown" where it is not sure.

With audio files, each is decoded and measured with the very spec the model learnt from. Without files, the tracks of
the store that have no genre are answered from their stored features; where every track has one, the tracks of the
split that the model was reported on, with the true genre beside the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis import options
from analysis.evaluation import Answers, Card, answer
from analysis.models import persist
from featurestore import registry
from featurestore.datasets import encode_name
from featurestore.datasets.scan import audio_files
from featurestore.errors import AudioError, FeatureStoreError
from featurestore.store.store import OWN_SET, Store
from featurestore.terminal import cli, progress

DEFAULT_MODEL = "models/compare"


def predict_files(
    model: str, paths: Sequence[str], *, threshold: float | None = None, every_score: bool = False
) -> Answers:
    """Answer audio files with a kept model.

    Parameters
    ----------
    model : str
        Its folder, the path of its file, or a name under `models/`.
    paths : sequence of str
        Audio files, or folders of them.
    threshold : float, optional
        Confidence below which the answer is "unknown"; None: the card's.
    every_score : bool
        Whether each genre gets a column.

    Returns
    -------
    Answers

    Raises
    ------
    MissingInput
        If there is no model, or a path is not there.
    SpecMismatch
        If the model learnt from values that this version measures otherwise.
    FeatureStoreError
        If the model is damaged, or of an imported set, whose values cannot be measured from audio.
    """
    from featurestore.measure.file import measure_file

    card, fitted = persist.load(model)
    columns = _columns(card, model)
    assert card.spec is not None
    rows, failures = [], {}
    limit = card.threshold if threshold is None else threshold
    files = audio_files(paths)
    with progress.bar("predict", len(files)) as bar:
        for path in files:
            try:
                _, measured = measure_file(path, card.spec)
                X = np.stack([found.features for _, found in measured])[:, columns]
                scores = fitted.probabilities(X)
                rows.append({"path": encode_name(path), **answer(scores, card.classes, limit, every_score=every_score)})
            except AudioError as error:
                failures[path] = f"{error.stage}: {error.kind}: {error.message}"
            bar.advance()
    return Answers(rows, failures, limit)


def _columns(card: Card, model: str) -> list[int]:
    """Where the model's columns lie among what its spec measures."""
    if card.feature_set != OWN_SET or card.spec is None:
        raise FeatureStoreError(
            f"model {model} learnt from the imported set {card.feature_set!r}, which audio cannot be measured for",
            "Give no files to answer stored tracks, or make a model of measured features: "
            f"`python -m analysis.compare --features {OWN_SET}`.",
        )
    card.require_spec()
    return card.positions(registry.column_names(card.spec.groups))


def predict_stored(model: str, store: Store, *, threshold: float | None = None, every_score: bool = False) -> Answers:
    """Answer the store's unlabelled tracks; where there are none, those of the split the model was reported on.

    Parameters
    ----------
    model : str
        Its folder, the path of its file, or a name under `models/`.
    store : Store
    threshold, every_score
        As for `predict_files`.

    Returns
    -------
    Answers

    Raises
    ------
    MissingInput, FeatureStoreError
        As `predict_files`.
    SpecMismatch
        If the store was measured with other numbers than the model learnt from.
    """
    import warehouse

    card, fitted = persist.load(model)
    card.require_spec(store.spec, store.url)
    features = str(card.feature_set)
    m = warehouse.matrix(store, features=features, labelled=False)
    mask = np.array([genre is None for genre in m.y])
    if not mask.any():
        read = card.evaluation
        m = warehouse.matrix(store, features=features, split=read["split"], scheme=read["scheme"])
        mask = np.ones(len(m.y), bool)
    X = m.X[mask][:, card.positions(m.columns)]
    probabilities = fitted.probabilities(np.where(np.isfinite(X), X, np.float32("nan")))
    ids, first, which = np.unique(m.track_ids[mask], return_index=True, return_inverse=True)
    limit = card.threshold if threshold is None else threshold
    truth = m.y[mask][first]
    rows: list[dict[str, Any]] = [
        {
            "track_id": int(track),
            **answer(probabilities[which == i], card.classes, limit, every_score=every_score),
            "truth": truth[i],
        }
        for i, track in enumerate(ids)
    ]
    return Answers(rows, {}, limit)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, answer the files or the stored tracks, and print the answers.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0; 3 where some files failed, 1 where all did.
    """
    parser = cli.Parser(prog="python -m analysis.predict", description=__doc__)
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL, help="folder of a kept model")
    add("files", metavar="FILE", nargs="*", help="audio files or folders; none: tracks of the store")
    cli.add_store(parser)
    add("--threshold", type=options.share, metavar="P", help="answer from this confidence on; the card's")
    add("--scores", action="store_true", help="one more column for each genre")
    cli.add_format(parser)
    args = parser.parse_args(argv)
    given = {"threshold": args.threshold, "every_score": args.scores}
    if args.files:
        return predict_files(args.model, args.files, **given).report(args.format)
    return predict_stored(args.model, Store.open(args.store), **given).report(args.format)


if __name__ == "__main__":
    sys.exit(cli.run(main))
