"""What every data set loader returns, and the small tables they share."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from featurestore import schemas
from featurestore.datasets import genres, paths
from featurestore.errors import FeatureStoreError

# FMA's genre ids stay below 2,000; genres known by name only get ids above
FIRST_NAMED_GENRE = 10_000


@dataclasses.dataclass(frozen=True)
class Collection:
    """A data set as its publisher or its files describe it; nothing is decoded.

    Attributes
    ----------
    name : str
        Data set name (a value of `tracks.dataset`).
    audio : str or None
        Folder or URL that `tracks.path` is relative to; None for labels only.
    metadata : str or None
        Where the labels were read from; None where the files themselves are the source.
    tracks : pyarrow.Table
        schemas.TRACKS; `path` is NULL for a track without a file (see `paths.audio_path` for the way back).
    genres : pyarrow.Table
        schemas.GENRES.
    warnings : tuple of str
        What was left out or doubtful, one sentence each.
    """

    name: str
    audio: str | None
    metadata: str | None
    tracks: pa.Table
    genres: pa.Table
    warnings: tuple[str, ...]


def genre_ids(titles: Iterable[str]) -> dict[str, int]:
    """A stable id for each genre that is known by name only: a checksum of the name, from 10,000 up.

    Parameters
    ----------
    titles : iterable of str
        The genres, in any order and any number of times.

    Returns
    -------
    dict of str to int
    """
    ids: dict[str, int] = {}
    taken: set[int] = set()
    for title in sorted(set(titles)):
        number = FIRST_NAMED_GENRE + zlib.crc32(title.encode()) % ((1 << 31) - 2 * FIRST_NAMED_GENRE)
        while number in taken:
            number += 1
        taken.add(number)
        ids[title] = number
    return ids


def genre_table(ids: dict[str, int]) -> pa.Table:
    """Make the table of genres that have no parents.

    Parameters
    ----------
    ids : dict of str to int
        The id of each title.

    Returns
    -------
    pyarrow.Table
        schemas.GENRES, in the order of `ids`; each genre is its own top level.

    Examples
    --------
    >>> genre_table({"Jazz": 10007}).to_pylist()
    [{'genre_id': 10007, 'title': 'Jazz', 'parent_id': None, 'top_level_id': 10007}]
    """
    rows: list[dict[str, object]] = [
        {"genre_id": i, "title": t, "parent_id": None, "top_level_id": i} for t, i in ids.items()
    ]
    return schemas.from_rows(rows, schemas.GENRES)


def from_labels(
    name: str,
    labels: Sequence[Mapping[str, Any]],
    *,
    audio: str | None = None,
    metadata: str | None = None,
    warnings: tuple[str, ...] = (),
) -> Collection:
    """A collection of tracks whose genres are known by name.

    Parameters
    ----------
    name : str
        The data set.
    labels : sequence of mappings
        Columns of schemas.TRACKS for each track. Without a `track_id` a track is known by its `path`. `genres`, where
        it is there, has all names of genres; else `genre` is the only one. Spellings of a genre become one.
    audio, metadata, warnings
        As in `Collection`.

    Returns
    -------
    Collection
        Its tracks are sorted by id.

    Raises
    ------
    FeatureStoreError
        Two tracks have one id.
    """
    names = [list(label.get("genres") or [label.get("genre") or ""]) for label in labels]
    spelt = genres.unify(n for some in names for n in some)
    names = [[n for n in dict.fromkeys(spelt[n] for n in some) if n] for some in names]
    ids = genre_ids(n for some in names for n in some)
    rows = [
        {
            "track_id": label["track_id"] if "track_id" in label else paths.track_id(name, str(label["path"])),
            "dataset": name,
            **{k: v for k, v in label.items() if k not in ("track_id", "genres")},
            "genre": some[0] if some else None,
            "genre_ids": [ids[n] for n in some],
        }
        for label, some in zip(labels, names, strict=True)
    ]
    rows.sort(key=lambda row: row["track_id"])
    for one, other in itertools.pairwise(rows):
        if one["track_id"] == other["track_id"]:
            same = f"{one.get('path') or one['title']} and {other.get('path') or other['title']}"
            raise FeatureStoreError(f"{same} have the same track id {one['track_id']}", "Rename one of them.")
    return Collection(name, audio, metadata, schemas.from_rows(rows, schemas.TRACKS), genre_table(ids), warnings)
