"""A sample of FMA that looks like the whole: so many tracks of each genre, official splits in proportion."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from featurestore.datasets.fma import errata
from featurestore.datasets.fma import tracks as fma

EMPTY_CLIPS_SUBSETS = ("small", "medium", "large")  # fma_full holds whole tracks, which are sound


def choose(metadata: str, *, subset: str, per_genre: int, seed: int) -> list[int]:
    """Track ids (sorted) of `per_genre` tracks of each top genre in the subset, or all where a genre has fewer.

    Deterministic by seed, and nested: a larger `per_genre` keeps the tracks of a smaller one. Within a genre the
    official splits get places by the Sainte-Laguë rule. Tracks without a top genre, and clips known to hold no audio,
    are not chosen. Raises MissingInput where there is no FMA metadata.
    """
    folder = fma.metadata_folder(metadata)
    tracks, _ = fma.read_tracks(f"{folder}/tracks.csv", subset)
    columns = (tracks[c].to_pylist() for c in ("track_id", "genre", "official_split"))
    groups: dict[str, dict[str, list[int]]] = {}
    silent = set(errata.expected_failures(tracks["track_id"].to_pylist())) if subset in EMPTY_CLIPS_SUBSETS else ()
    for track_id, genre, split in zip(*columns, strict=True):
        if genre is not None and track_id not in silent:
            groups.setdefault(genre, {}).setdefault(split or "", []).append(track_id)
    chosen: list[int] = []
    for splits in groups.values():
        places = apportion({s: len(ids) for s, ids in splits.items()}, per_genre)
        for split, ids in splits.items():
            chosen += sorted(ids, key=lambda i: _draw(seed, i))[: places[split]]
    return sorted(chosen)


def apportion(sizes: Mapping[str, int], places: int) -> dict[str, int]:
    """Divide places among groups in proportion to their sizes, none more than its size (Sainte-Laguë).

    One place after another goes to the group with the largest size / (2 * places so far + 1), so more places never
    take one from a group.
    """
    given = dict.fromkeys(sizes, 0)
    for _ in range(min(places, sum(sizes.values()))):
        open_groups = (g for g in sizes if given[g] < sizes[g])
        best = min(open_groups, key=lambda g: (-sizes[g] / (2 * given[g] + 1), g))
        given[best] += 1
    return given


def _draw(seed: int, track_id: int) -> bytes:
    return hashlib.sha256(f"{seed}:{track_id}".encode()).digest()
