"""`folders`: one folder per genre, as GTZAN is laid out.

The genre of `rock/live/a.mp3` is `rock`, the first folder below --audio. GTZAN's names (`blues.00012.wav`) are
understood wherever they lie. Any other file directly in --audio has no genre (NULL).
"""

from __future__ import annotations

import re

from featurestore.datasets import paths
from featurestore.datasets.collection import Collection, from_labels
from featurestore.datasets.scan import scan

GTZAN_GENRES = frozenset(["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"])
_NUMBERED = re.compile(r"^([A-Za-z][A-Za-z_-]*)\.(\d{5})$")
GTZAN_WARNING = (
    "GTZAN has no artist list, so splits cannot keep artists apart, and it is known to hold repeated recordings, "
    "repeated artists, wrong labels and one broken file, jazz.00054 (Sturm, arXiv 1306.1461): "
    "scores on it are optimistic and hardly comparable"
)


def load(audio: str) -> Collection:
    """Catalog the audio files below `audio`. Raises MissingInput where there is no folder or no audio file."""
    found = scan(audio)
    labels = [{"path": p, "title": paths.stem(p), "genre": genre_of(p)} for p in found.paths]
    warnings = list(found.warnings)
    if sum(gtzan_genre(p) in GTZAN_GENRES for p in found.paths) > len(found.paths) / 2:
        warnings.append(GTZAN_WARNING)
    unlabelled = sum(label["genre"] is None for label in labels)
    if unlabelled:
        warnings.append(f"files directly in the folder have no genre: {unlabelled} of {len(labels)}")
    return from_labels("folders", labels, audio=audio, warnings=tuple(warnings))


def genre_of(path: str) -> str | None:
    """The genre that a file's place says: GTZAN's own names first, else the first folder, else None."""
    named = gtzan_genre(path)
    folder = path.partition("/")[0] if "/" in path else None
    if named and (folder is None or named in GTZAN_GENRES):
        return named
    return folder


def gtzan_genre(path: str) -> str | None:
    """The genre in a name such as `blues.00012.wav`, else None."""
    match = _NUMBERED.match(paths.stem(path))
    return match[1] if match else None
