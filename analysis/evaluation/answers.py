"""What a model answers about audio files and tracks: one vocabulary of columns, for both kinds of models.

path or track_id; genre ("unknown" below the model's threshold); confidence, the best score, 0 to 1; likeliest, the best
genres with their scores; excerpts, how many were averaged; where asked for, one score_<genre> each.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, MissingInput

if TYPE_CHECKING:
    import pyarrow as pa

UNKNOWN = "unknown"
LIKELIEST = 3  # genres that `likeliest` names


@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers to files or tracks.

    Parameters
    ----------
    rows : list of dict
        One per file or track that could be answered: its name and the columns of `answer`.
    failures : mapping of str
        File -> what was wrong with it.
    threshold : float
        The confidence below which "unknown" was answered.
    """

    rows: list[dict[str, Any]]
    failures: Mapping[str, str]
    threshold: float

    @property
    def table(self) -> pa.Table:
        """The rows as an Arrow table."""
        import pyarrow as pa

        return pa.Table.from_pylist(self.rows)

    def report(self, format: str = "table", output: str | None = None) -> int:
        """Print the answers, or write them to a file; what concerns people goes to standard error.

        Parameters
        ----------
        format : str
            table, csv, json, parquet or markdown.
        output : str, optional
            File or URL to write instead of printing.

        Returns
        -------
        int
            Exit code: 0; 3 where some files failed; 1 where all did.
        """
        from featurestore.terminal import tables, words

        if self.rows:
            tables.emit(self.table, format, output)
        words.note(f'"{UNKNOWN}" below confidence {self.threshold:.2f}; excerpts of a track are averaged')
        for path, message in self.failures.items():
            words.note(f"failed: {message if path in message else f'{path}: {message}'}")
        if not self.failures:
            return EXIT_DONE
        return EXIT_PARTIAL if self.rows else EXIT_FAILED


def answer(
    scores: np.ndarray, classes: Sequence[str], threshold: float, *, every_score: bool = False
) -> dict[str, Any]:
    """The answer to one track.

    Parameters
    ----------
    scores : (n, c)
        Scores of its excerpts, 0 to 1; their mean decides, and of equal means the lower class.
    classes : sequence of c str
        Names of the classes.
    threshold : float
        Confidence from which on the best class is the answer.
    every_score : bool
        Whether each class gets a column `score_<genre>`.

    Returns
    -------
    dict
        genre, confidence, likeliest, excerpts, and the scores asked for.

    Examples
    --------
    >>> answer(np.array([[0.7, 0.3], [0.5, 0.5]]), ("Jazz", "Rock"), 0.5)
    {'genre': 'Jazz', 'confidence': 0.6, 'likeliest': 'Jazz 0.60, Rock 0.40', 'excerpts': 2}
    """
    mean = np.asarray(scores, dtype=np.float64).mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    best = float(mean[order[0]])
    row = {
        "genre": classes[order[0]] if best >= threshold else UNKNOWN,
        "confidence": round(best, 6),
        "likeliest": ", ".join(f"{classes[j]} {mean[j]:.2f}" for j in order[:LIKELIEST]),
        "excerpts": len(scores),
    }
    every = {f"score_{name}": round(float(s), 6) for name, s in zip(classes, mean, strict=True)}
    return row | (every if every_score else {})


def audio_files(paths: Sequence[str]) -> list[str]:
    """The files named, each folder replaced by the audio files below it.

    Parameters
    ----------
    paths : sequence of str
        Files and folders of this machine.

    Returns
    -------
    list of str
        In the order given, sorted within a folder.

    Raises
    ------
    MissingInput
        If a path is not there, or a folder holds no audio.
    """
    from featurestore.datasets import audio_path
    from featurestore.datasets.scan import scan

    out: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            out += [audio_path(path, stored) for stored in scan(path).paths]
        elif os.path.exists(path):
            out.append(path)
        else:
            raise MissingInput(f"{path}: no such file or folder", "Name audio files, or folders that hold some.")
    return out
