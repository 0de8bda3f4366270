"""Who trains and who is tested: the split schemes, drawn so that nothing leaks and nothing moves.

    official   what the data set's publisher drew
    artist     64 / 16 / 20, stratified by genre; all tracks of an artist in one split
    random     64 / 16 / 20, stratified by genre; ignores artists, and exists to show what that buys

A draw is deterministic and stable: a track that has a split keeps it, whatever arrives later. New tracks join the
split of their artist, or fill what is missing, larger groups first, in an order hashed from the seed and their ids and
never from their arrival. Only new knowledge moves a track: where two tracks turn out to be of one artist, the artist
gathers where most of its tracks are; and copies, below.

Copies (tracks whose audio files are equal byte for byte) never stand in different splits. The earliest one stays.
In `artist` and `random` a later copy moves to it, unless it would leave its artist behind: then, and always in
`official`, the copy is left out of the less telling split (training before validation before test).
Row order in the splits table is the order of arrival.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import schemas
from featurestore.datasets.artists import artist_groups
from featurestore.errors import UsageError

SHARES = (0.64, 0.16, 0.20)  # of schemas.SPLITS
_DEFICIT_FLOOR = 1e-9


def draw(
    tracks: pa.Table,
    scheme: str,
    *,
    existing: Mapping[int, str] | None = None,
    content: Mapping[int, str] | None = None,
    seed: int = 0,
) -> dict[int, str]:
    """Give every track a split; in the scheme `official` only those whose publisher drew one.

    Parameters
    ----------
    tracks : pyarrow.Table
        schemas.TRACKS.
    scheme : str
        official, artist or random.
    existing : mapping of int to str, optional
        {track_id: split} of an earlier draw, in order of arrival; kept.
    content : mapping of int to str, optional
        {track_id: hash of the audio file}; equal hashes are copies.
    seed : int
        Of the order in which groups of the same size are drawn.

    Returns
    -------
    dict of int to str
        {track_id: split} in order of arrival, without the copies that are left out.

    Raises
    ------
    UsageError
        There is no such scheme.
    """
    kept = dict(existing or {})
    if scheme not in schemas.SCHEMES:
        raise UsageError(f"unknown split scheme {scheme!r}; known are {', '.join(schemas.SCHEMES)}", "Name one.")
    ids = tracks["track_id"].to_pylist()
    artists = _artists(tracks) if scheme == "artist" else {i: i for i in ids}
    if scheme == "official":
        published = dict(zip(ids, tracks["official_split"].to_pylist(), strict=True))
        new = {i: s for i, s in sorted(published.items()) if s in schemas.SPLITS}
        splits = {i: new[i] for i in kept if i in new} | new
    else:
        splits = _fill(tracks, artists, kept, scheme, seed)
    _settle_copies(splits, artists, content or {}, may_move=scheme != "official")
    return splits


def advice(scheme: str) -> str:
    """Say what to do where a store has no split of a scheme.

    Parameters
    ----------
    scheme : str
        official, artist or random.

    Returns
    -------
    str
        A sentence for the end of an error message.
    """
    if scheme == "official":
        return "Only a data set with a published split (FMA) has an official one; use the scheme artist instead."
    return "Splits are drawn with the labels: `python -m featurestore catalog --dataset NAME ...`."


def copies(content: Mapping[int, str]) -> list[list[int]]:
    """Group the tracks whose audio files are equal.

    Parameters
    ----------
    content : mapping of int to str
        {track_id: hash of the audio file}; tracks with an empty hash are left out.

    Returns
    -------
    list of list of int
        Groups of two or more track ids, each sorted.

    Examples
    --------
    >>> copies({1: "x", 2: "y", 3: "x", 4: ""})
    [[1, 3]]
    """
    groups = defaultdict(list)
    for track, digest in sorted(content.items()):
        if digest:
            groups[digest].append(track)
    return sorted(g for g in groups.values() if len(g) > 1)


def _artists(tracks: pa.Table) -> dict[int, int]:
    """{track_id: its artist, see `artist_groups`}."""
    return dict(zip(tracks["track_id"].to_pylist(), artist_groups(tracks).tolist(), strict=True))


def _fill(tracks: pa.Table, artists: Mapping[int, int], kept: dict[int, str], scheme: str, seed: int) -> dict[int, str]:
    ids = tracks["track_id"].to_pylist()
    # a stratum per subset too, so that fma_small alone is stratified as well as the whole
    strata_keys = list(zip(*(tracks[c].to_pylist() for c in ("dataset", "subset", "genre")), strict=True))
    strata = {key: i for i, key in enumerate(dict.fromkeys(strata_keys))}
    stratum = dict(zip(ids, (strata[k] for k in strata_keys), strict=True))
    totals = np.bincount(list(stratum.values()), minlength=len(strata))
    targets = np.maximum(np.outer(SHARES, totals), _DEFICIT_FLOOR)
    counts = np.zeros_like(targets)
    splits = {i: s for i, s in kept.items() if i in stratum}
    home = _homes(splits, artists)
    for track in splits:
        splits[track] = home[artists[track]]
        counts[schemas.SPLITS.index(splits[track]), stratum[track]] += 1
    waiting: dict[int, list[int]] = defaultdict(list)
    for track in ids:
        if track not in splits:
            waiting[artists[track]].append(track)
    drawn: dict[int, str] = {}
    for group, members in _in_order(waiting, scheme, seed):
        where, size = np.unique([stratum[m] for m in members], return_counts=True)
        split = home.get(group)
        index = schemas.SPLITS.index(split) if split else _neediest(counts[:, where], targets[:, where], size)
        counts[index, where] += size
        drawn |= dict.fromkeys(members, schemas.SPLITS[index])
    return splits | dict(sorted(drawn.items()))


def _homes(splits: Mapping[int, str], artists: Mapping[int, int]) -> dict[int, str]:
    """The split that holds most tracks of each group; between equals, that of the earliest."""
    votes: dict[int, Counter[str]] = defaultdict(Counter)
    for track, split in splits.items():
        votes[artists[track]][split] += 1
    return {group: found.most_common(1)[0][0] for group, found in votes.items()}


def _neediest(counts: np.ndarray, targets: np.ndarray, size: np.ndarray) -> int:
    """The split (row) where adding `size` per stratum lowers the chi-square distance to the targets most."""
    before, after = counts - targets, counts + size - targets
    return int(np.argmin(((after**2 - before**2) / targets).sum(axis=1)))


def _in_order(groups: Mapping[int, list[int]], scheme: str, seed: int) -> list[tuple[int, list[int]]]:
    """Larger groups first, so that the small ones can even things out; equals in an order hashed from their ids."""
    keys = np.array([min(members) for members in groups.values()], dtype=np.uint64)
    order = np.lexsort((mix(keys, seed + schemas.SCHEMES.index(scheme)), -np.array([len(m) for m in groups.values()])))
    items = list(groups.items())
    return [items[i] for i in order]


def mix(keys: np.ndarray, seed: int) -> np.ndarray:
    """Hash numbers with splitmix64; the same on every machine.

    Parameters
    ----------
    keys : numpy.ndarray
        uint64, any shape.
    seed : int
        0 or more; another seed gives another order.

    Returns
    -------
    numpy.ndarray
        uint64, of the shape of `keys`.

    Examples
    --------
    >>> mix(np.array([0], np.uint64), seed=0)  # the first number that splitmix64 gives from the state 0
    array([16294208416658607535], dtype=uint64)
    """
    z = keys.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % (1 << 64))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _settle_copies(
    splits: dict[int, str], artists: Mapping[int, int], content: Mapping[int, str], *, may_move: bool
) -> None:
    arrival = {track: i for i, track in enumerate(splits)}
    members: dict[int, int] = defaultdict(int)
    for track in splits:
        members[artists[track]] += 1
    for group in copies({t: h for t, h in content.items() if t in splits}):
        first, *later = sorted(group, key=arrival.__getitem__)
        for track in later:
            if may_move and members[artists[track]] == 1:
                splits[track] = splits[first]
        stays = max((splits[t] for t in group), key=schemas.SPLITS.index)
        for track in group:
            if splits[track] != stays:
                del splits[track]


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """What a scheme looks like.

    Attributes
    ----------
    scheme : str
        official, artist or random.
    counts : pyarrow.Table
        genre (string), training, validation, test, total (int64): one row a genre, and one for all.
    artists, artists_crossing : int
        Artists known, and how many of them have tracks in more than one split.
    without_artist : int
        Tracks whose artist is not known: each counts, and is drawn, as one of its own.
    copies, copies_crossing : int
        Groups of equal audio files, and how many of them stand in more than one split.
    unmeasured : int
        Tracks whose audio is not hashed yet, so copies among them are not known.
    """

    scheme: str
    counts: pa.Table
    artists: int
    artists_crossing: int
    without_artist: int
    copies: int
    copies_crossing: int
    unmeasured: int


def report(tracks: pa.Table, scheme: str, splits: Mapping[int, str], content: Mapping[int, str]) -> SplitReport:
    """Count a scheme's splits per genre, and how many artists and copies cross.

    Parameters
    ----------
    tracks : pyarrow.Table
        schemas.TRACKS; only these are counted.
    scheme : str
        official, artist or random.
    splits : mapping of int to str
        {track_id: split}.
    content : mapping of int to str
        {track_id: hash of the audio file}.

    Returns
    -------
    SplitReport
    """
    ids = tracks["track_id"].to_pylist()
    splits = {i: splits[i] for i in ids if i in splits}
    kept = tracks.select(["genre"]).append_column("split", pa.array([splits.get(i) for i in ids], pa.string()))
    kept = kept.filter(pc.is_valid(kept["split"]))
    artists = {t: g for t, g in _artists(tracks).items() if g >= 0 and t in splits}
    together: dict[int, set[str]] = defaultdict(set)
    for track, group in artists.items():
        together[group].add(splits[track])
    groups = copies({t: h for t, h in content.items() if t in splits})
    return SplitReport(
        scheme=scheme,
        counts=_counts(kept["genre"].to_pylist(), kept["split"].to_pylist()),
        artists=len(together),
        artists_crossing=sum(len(s) > 1 for s in together.values()),
        without_artist=len(splits) - len(artists),
        copies=len(groups),
        copies_crossing=sum(len({splits[t] for t in g}) > 1 for g in groups),
        unmeasured=sum(t not in content for t in splits),
    )


def _counts(genres: Iterable[str | None], splits: Iterable[str]) -> pa.Table:
    found = Counter(zip(genres, splits, strict=True))
    names = sorted({genre for genre, _ in found}, key=lambda g: (g is None, g or ""))
    counts = {split: [found[genre, split] for genre in names] for split in schemas.SPLITS}
    columns: dict[str, pa.Array] = {"genre": pa.array([*names, "all"], pa.string())}
    columns |= {split: pa.array([*some, sum(some)], pa.int64()) for split, some in counts.items()}
    total = np.sum([columns[split].to_numpy() for split in schemas.SPLITS], axis=0)
    return pa.table({**columns, "total": pa.array(total, pa.int64())})
