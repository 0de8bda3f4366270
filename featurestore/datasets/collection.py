"""What every data set loader returns, and the small tables they share."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Iterable, Sequence

import pyarrow as pa

from featurestore import schemas
from featurestore.datasets import paths
from featurestore.errors import FeatureStoreError

# FMA's genre ids stay below 2,000; genres known by name only get ids above
FIRST_NAMED_GENRE = 10_000


@dataclasses.dataclass(frozen=True)
class Collection:
    """A data set as its publisher or its files describe it; nothing is decoded.

    name        data set name (a value of `tracks.dataset`)
    audio       folder or URL that `tracks.path` is relative to; None for labels only
    metadata    folder the labels were read from; None where the files themselves are the source
    tracks      schemas.TRACKS; `path` is NULL for a track without a file (see `paths.audio_path` for the way back)
    genres      schemas.GENRES
    warnings    what was left out or doubtful, one sentence each
    """

    name: str
    audio: str | None
    metadata: str | None
    tracks: pa.Table
    genres: pa.Table
    warnings: tuple[str, ...]


def genre_ids(titles: Iterable[str]) -> dict[str, int]:
    """A stable id for each genre that is known by name only: a checksum of the name, from 10,000 up."""
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
    """schemas.GENRES of top-level genres."""
    rows: list[dict[str, object]] = [
        {"genre_id": i, "title": t, "parent_id": None, "top_level_id": i} for t, i in ids.items()
    ]
    return schemas.from_rows(rows, schemas.GENRES)


def from_files(
    name: str, audio: str, found: Sequence[str], labels: Sequence[dict[str, object]], warnings: tuple[str, ...]
) -> Collection:
    """A collection of the files `found`, one dict of labels each (columns of schemas.TRACKS).

    `genre` decides `genre_ids`, unless a label dict has the key `genres` with all names.
    """
    names = [list(label.get("genres") or ([label["genre"]] if label.get("genre") else [])) for label in labels]  # type: ignore[call-overload]
    ids = genre_ids(n for some in names for n in some)
    rows = []
    for path, label, genres in zip(found, labels, names, strict=True):
        columns = {k: v for k, v in label.items() if k != "genres"}
        key = {"track_id": paths.track_id(name, path), "dataset": name, "path": path}
        rows.append({**key, **columns, "genre_ids": [ids[g] for g in genres]})
    rows.sort(key=lambda row: int(row["track_id"]))  # type: ignore[call-overload]
    for one, other in itertools.pairwise(rows):
        if one["track_id"] == other["track_id"]:
            raise FeatureStoreError(
                f"{one['path']} and {other['path']} have the same track id {one['track_id']}", "Rename one of them."
            )
    return Collection(name, audio, None, schemas.from_rows(rows, schemas.TRACKS), genre_table(ids), warnings)
