"""What a reader of a store sees at one moment: committed batches, and the rows in them that newer ones supersede."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The batches with rows to show, and the rows in them that newer batches supersede.

    Parameters
    ----------
    batches : tuple of str
        Names, oldest first; a batch with nothing left to show is not among them.
    superseded : pa.Table
        (track_id int64, batch string): rows of that track in that batch are not to be shown.
    retired : tuple of str
        Names of the committed batches with nothing left to show, which `gc` removes after a while.
    fingerprint : str
        64 hexadecimal digits over the digests of the batches and the superseded rows: the same rows and files give the
        same text.
    """

    batches: tuple[str, ...]
    superseded: pa.Table
    retired: tuple[str, ...] = ()
    fingerprint: str = ""


def supersede(batches: tuple[str, ...], tracks: Sequence[np.ndarray], digests: Sequence[bytes]) -> Snapshot:
    """The snapshot of `batches`: of each track, the newest batch is shown.

    Parameters
    ----------
    batches : tuple of str
        Names, oldest first.
    tracks : sequence of np.ndarray
        int64 (n,) of each batch: the tracks it speaks of, each once.
    digests : sequence of bytes
        What names the content of each batch.

    Returns
    -------
    Snapshot

    Examples
    --------
    >>> import numpy as np
    >>> found = supersede(("a", "b"), [np.array([1, 2]), np.array([2])], [b"x", b"y"])
    >>> found.batches, found.superseded.to_pylist()
    (('a', 'b'), [{'track_id': 2, 'batch': 'a'}])
    """
    ids = np.concatenate([np.empty(0, np.int64), *tracks])
    owner = np.repeat(np.arange(len(batches)), [len(t) for t in tracks])
    unique, which = np.unique(ids, return_inverse=True)
    newest = np.zeros(len(unique), np.int64)
    np.maximum.at(newest, which, owner)
    old = newest[which] != owner
    alive = np.bincount(owner[~old], minlength=len(batches)) > 0
    shown = old & alive[owner]
    names = np.array(batches, dtype=object)
    superseded = pa.table(
        {"track_id": pa.array(ids[shown], pa.int64()), "batch": pa.array(list(names[owner[shown]]), pa.string())}
    )
    content = hashlib.sha256(b"".join(d for d, is_shown in zip(digests, alive, strict=True) if is_shown))
    place = np.cumsum(alive) - 1  # among the batches shown: `gc` removes others
    content.update(np.stack([place[owner[shown]], ids[shown]]).astype("<i8").tobytes())
    return Snapshot(tuple(names[alive]), superseded, tuple(names[~alive]), content.hexdigest())
