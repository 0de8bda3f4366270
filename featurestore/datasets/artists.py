"""Who is the same artist: the one rule, for splits, exports, statistics and SQL.

Two tracks are of one artist where their artist ids are equal or their names are equal (compared as `normalise` writes
them), directly or through other tracks of the table. A track with neither has an artist of its own.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# names that stand for "not one artist": two tracks that share one are not known to share anything
PLACEHOLDERS = frozenset({"", "various artists", "various", "va", "unknown artist", "unknown", "n/a"})


def normalise(name: str | None) -> str:
    """An artist's name for comparing.

    Parameters
    ----------
    name : str or None
        The name as a file or a table spells it.

    Returns
    -------
    str
        Compatibility form, case folded, one space between words; "" where no artist is known by that name.

    Examples
    --------
    >>> normalise("  The  ÖRCHIDS "), normalise("Various Artists")
    ('the örchids', '')
    """
    text = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", name or "")).strip().casefold()
    return "" if text in PLACEHOLDERS else text


def artist_groups(tracks: pa.Table) -> np.ndarray:
    """The artist of each track as a number.

    Parameters
    ----------
    tracks : pyarrow.Table
        Columns track_id and artist_id (int64) and artist (string). Give the whole catalog: what makes two tracks one
        artist's may stand in a third.

    Returns
    -------
    numpy.ndarray
        int64, (rows,): equal for tracks of one artist. It is the smallest track id of that artist, and -1 - track_id
        where no artist is known.

    Examples
    --------
    >>> artist_groups(pa.table({"track_id": [5, 3, 4], "artist_id": [7, 7, None], "artist": ["A", None, None]}))
    array([ 3,  3, -5])
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    track = tracks["track_id"].to_numpy()
    names = pa.array([normalise(name) or None for name in tracks["artist"].to_pylist()], pa.string())
    number, name = _codes(tracks["artist_id"].combine_chunks()), _codes(names)
    both = (number >= 0) & (name >= 0)
    ids = number.max(initial=-1) + 1  # the nodes of the graph: the ids, then the names
    nodes = ids + name.max(initial=-1) + 1
    if not nodes:
        return -1 - track
    links = coo_array((np.ones(both.sum(), bool), (number[both], ids + name[both])), shape=(nodes, nodes))
    _, component = connected_components(links, directed=False)
    known = (number >= 0) | (name >= 0)
    artist = component[np.where(number >= 0, number, ids + name)]
    first = np.full(nodes, np.iinfo(np.int64).max)
    np.minimum.at(first, artist[known], track[known])
    return np.where(known, first[artist], -1 - track)


def _codes(values: pa.Array) -> np.ndarray:
    """A small number for each distinct value, -1 for NULL."""
    return pc.fill_null(pc.dictionary_encode(values).indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
