"""Mel spectrograms and waveforms as arrays, batch by batch, in bounded memory and in any order of keys."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import REPAIR, StoreDamaged, UsageError
from featurestore.store import arrays, files
from featurestore.store.store import Store
from warehouse.arrays.keys import locate_keys, open_snapshot, require_table, select_keys

Row = dict[str, Any]

_OPEN_FILES = 64  # files kept open between batches; a random order of keys comes back to each


@dataclasses.dataclass(frozen=True)
class MelBatch:
    """Mel spectrograms of some excerpts.

    Attributes
    ----------
    track_ids : np.ndarray
        (n,) int64.
    excerpts : np.ndarray
        (n,) int16.
    genres : np.ndarray
        (n,) object: genre as str, None where unlabelled.
    mels : list of np.ndarray
        n arrays (n_mels, n_frames) in dB, float32 (see `iter_mels` for float16).

    Examples
    --------
    >>> next(iter_mels(store)).mels[0].dtype
    dtype('float32')
    """

    track_ids: np.ndarray
    excerpts: np.ndarray
    genres: np.ndarray
    mels: list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class WaveBatch:
    """Waveform windows of some excerpts.

    Attributes
    ----------
    track_ids : np.ndarray
        (n,) int64.
    excerpts : np.ndarray
        (n,) int16.
    genres : np.ndarray
        (n,) object: genre as str, None where unlabelled.
    waves : list of np.ndarray
        n arrays (n_samples,) float32 at full scale.
    sample_rate : int
        Of all of them, in Hz.

    Examples
    --------
    >>> next(iter_waves(store)).sample_rate
    22050
    """

    track_ids: np.ndarray
    excerpts: np.ndarray
    genres: np.ndarray
    waves: list[np.ndarray]
    sample_rate: int


def iter_mels(
    store: Store | str | os.PathLike[str],
    *,
    split: str | None = None,
    scheme: str | None = None,
    subset: str | None = None,
    keys: pa.Table | None = None,
    batch_size: int = 64,
    stored: bool = False,
) -> Iterator[MelBatch]:
    """Stream the mel spectrograms, ordered by (track_id, excerpt) or exactly as `keys` are, in bounded memory.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    split : str, optional
        training, validation or test; all excerpts, unlabelled ones included, where none is given.
    scheme : str, optional
        official, artist or random; the store's default scheme where a split is asked for and no scheme.
    subset : str, optional
        FMA subset, the smaller ones included.
    keys : pyarrow.Table, optional
        (track_id, excerpt) of what to read, instead of split, scheme and subset; only the row groups that hold these
        are read.
    batch_size : int
        Excerpts at a time; memory is bounded by it.
    stored : bool
        Leave the mels as they are stored: float16, read-only and uncopied. Otherwise they become float32.

    Returns
    -------
    iterator of MelBatch

    Raises
    ------
    MissingInput
        If there is no such split or key, or nothing was measured.
    UsageError, StoreDamaged
        For a wrong parameter, for a file that cannot be read.

    Examples
    --------
    >>> for batch in iter_mels(store, split="test", scheme="artist"):
    ...     print(len(batch.mels), batch.mels[0].shape, batch.genres[0])
    3 (32, 87) Ambient
    """
    with open_snapshot(store) as (opened, connection):
        rows = _rows(opened, connection, "mel", split, scheme, subset, keys, batch_size)
    spec = opened.spec

    def decode(row: Row) -> np.ndarray:
        if stored:
            return np.frombuffer(row["mel"], "<f2").reshape(spec.n_mels, -1)
        return arrays.decode_mel(row["mel"], spec.n_mels)

    parts = _batches(opened, "mel", rows, ("mel",), decode, batch_size)
    return (MelBatch(*_labels(part), mels) for part, mels in parts)


def iter_waves(
    store: Store | str | os.PathLike[str],
    *,
    split: str | None = None,
    scheme: str | None = None,
    subset: str | None = None,
    keys: pa.Table | None = None,
    batch_size: int = 64,
) -> Iterator[WaveBatch]:
    """Stream the waveform windows, ordered by (track_id, excerpt) or exactly as `keys` are, in bounded memory.

    Parameters
    ----------
    store, split, scheme, subset, keys, batch_size
        As for `iter_mels`.

    Returns
    -------
    iterator of WaveBatch

    Raises
    ------
    MissingInput, UsageError, StoreDamaged
        As `iter_mels`; MissingInput also where the store keeps no waveforms.

    Examples
    --------
    >>> next(iter_waves(store, batch_size=2)).waves[1].shape
    (11025,)
    """
    with open_snapshot(store) as (opened, connection):
        rows = _rows(opened, connection, "wave", split, scheme, subset, keys, batch_size)

    def decode(row: Row) -> np.ndarray:
        return arrays.decode_wave(row["wave"], row["scale"])

    parts = _batches(opened, "wave", rows, ("wave", "scale"), decode, batch_size)
    return (WaveBatch(*_labels(part), waves, opened.spec.sample_rate) for part, waves in parts)


def _rows(
    store: Store,
    connection: duckdb.DuckDBPyConnection,
    table: str,
    split: str | None,
    scheme: str | None,
    subset: str | None,
    keys: pa.Table | None,
    batch_size: int,
) -> pa.Table:
    """The rows to read, in order: track_id, excerpt, batch, genre."""
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, found {batch_size}", "64 is the default.")
    require_table(store, table)
    if keys is None:
        return select_keys(store, connection, scheme=scheme, split=split, subset=subset, labelled=False)
    if (split, scheme, subset) != (None, None, None):
        raise UsageError("keys already say which rows to read", "Leave out split, scheme and subset.")
    return locate_keys(store, connection, keys)


def _labels(part: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    genres = part["genre"].to_numpy(zero_copy_only=False)
    return part["track_id"].to_numpy(), part["excerpt"].to_numpy(), genres


def _batches(
    store: Store,
    table: str,
    rows: pa.Table,
    columns: tuple[str, ...],
    decode: Callable[[Row], np.ndarray],
    batch_size: int,
) -> Iterator[tuple[pa.Table, list[np.ndarray]]]:
    """`batch_size` rows at a time with their decoded values, in the order of `rows`."""
    # a file that is dropped from the cache is closed with its last reference
    opened = functools.lru_cache(_OPEN_FILES)(lambda batch: _open(store, store.batch_path(table, batch)))
    for start in range(0, len(rows), batch_size):
        part = rows.slice(start, batch_size)
        values: list[Any] = [None] * len(part)
        batch = part["batch"].combine_chunks().dictionary_encode()
        codes = batch.indices.to_numpy()
        for code, name in enumerate(batch.dictionary.to_pylist()):
            here = np.flatnonzero(codes == code)
            for i, row in zip(here, _read(opened(name), part.take(here), columns), strict=True):
                values[i] = decode(row)
        yield part, values


@dataclasses.dataclass(frozen=True)
class _File:
    """An open file, the row of each key in it, and the size and first row of each row group."""

    path: str
    parquet: pq.ParquetFile
    row_of: dict[tuple[int, int], int]
    sizes: np.ndarray
    starts: np.ndarray


def _open(store: Store, path: str) -> _File:
    try:
        # Arrow's own file reads without holding Python's lock
        parquet = pq.ParquetFile(path if files.is_local(store.fs) else store.fs.open(path, "rb"))
        keys = _keys(parquet.read(["track_id", "excerpt"]))
    except (OSError, pa.ArrowException) as error:
        raise StoreDamaged(f"{path}: {error}", REPAIR) from None
    sizes = np.array([parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)], np.int64)
    row_of = {key: row for row, key in enumerate(keys)}
    return _File(path, parquet, row_of, sizes, np.cumsum(sizes) - sizes)


def _keys(table: pa.Table) -> Iterator[tuple[int, int]]:
    return zip(table["track_id"].to_pylist(), table["excerpt"].to_pylist(), strict=True)


def _read(file: _File, keys: pa.Table, columns: tuple[str, ...]) -> Iterator[Row]:
    """The rows of `keys` in one file, in their order, reading only the row groups that hold them."""
    try:
        at = np.array([file.row_of[key] for key in _keys(keys)])
    except KeyError as error:
        track, excerpt = error.args[0]
        raise StoreDamaged(
            f"{file.path}: no row of track {track}, excerpt {excerpt}, which excerpts lists", REPAIR
        ) from None
    groups, which = np.unique(np.searchsorted(file.starts, at, side="right") - 1, return_inverse=True)
    sizes = file.sizes[groups]
    offset = np.cumsum(sizes) - sizes
    local = at - file.starts[groups[which]] + offset[which]
    try:
        # one column, or one and a number: a thread more only costs its waking
        found = file.parquet.read_row_groups(groups.tolist(), list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise StoreDamaged(f"{file.path}: {error}", REPAIR) from None
    values = {name: _values(found[name]) for name in columns}
    for i in local.tolist():
        yield {name: column[i] for name, column in values.items()}


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; bytes as buffers that lie where Arrow put them (its own scalars are copies)."""
    if not pa.types.is_binary(column.type):
        return column.to_pylist()
    return [value for chunk in column.chunks for value in _buffers(chunk)]


def _buffers(chunk: pa.BinaryArray) -> list[pa.Buffer]:
    _, offsets, data = chunk.buffers()
    ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
    return [data.slice(a, b - a) for a, b in itertools.pairwise(ends)]
