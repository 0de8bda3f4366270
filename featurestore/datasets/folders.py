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
    """Catalog audio files, each with its first folder as genre.

    Parameters
    ----------
    audio : str
        Folder or URL.

    Returns
    -------
    Collection
        Named folders; GTZAN's known faults are among the warnings where most names are GTZAN's.

    Raises
    ------
    MissingInput
        There is no such folder, or no audio file in it.
    """
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
    """Find the genre that a file's place says.

    Parameters
    ----------
    path : str
        Relative to the audio folder, with `/` between the parts.

    Returns
    -------
    str or None
        GTZAN's own name first, else the first folder; None for a file directly in the audio folder.

    Examples
    --------
    >>> genre_of("rock/live/a.mp3"), genre_of("all/blues.00012.wav"), genre_of("a.mp3")
    ('rock', 'blues', None)
    """
    named = gtzan_genre(path)
    folder = path.partition("/")[0] if "/" in path else None
    if named and (folder is None or named in GTZAN_GENRES):
        return named
    return folder


def gtzan_genre(path: str) -> str | None:
    """Find the genre in a file name of GTZAN's form.

    Parameters
    ----------
    path : str
        A file name, with or without folders.

    Returns
    -------
    str or None
        What stands before the five digits, whether GTZAN knows it or not; None for names of another form.

    Examples
    --------
    >>> gtzan_genre("blues.00012.wav"), gtzan_genre("blues.wav")
    ('blues', None)
    """
    match = _NUMBERED.match(paths.stem(path))
    return match[1] if match else None
