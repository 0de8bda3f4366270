"""What the driver hands to a worker, and what comes back: names and counts, never data."""

from __future__ import annotations

import dataclasses

MISSING = -1  # the size of a file that is not there


@dataclasses.dataclass(frozen=True)
class Item:
    """One audio file to measure.

    Attributes
    ----------
    track_id : int
        Whose file it is.
    path : str
        Its name within the collection, as rows and messages show it.
    source : str
        Where it lies: a path or an fsspec URL.
    size : int
        Bytes, as the driver saw the file; MISSING where there was none.
    mtime_ns : int or None
        Modification time, where the filesystem has one.
    known_hash : str
        The content that the store has measured: a file with this hash is left alone. Empty: measure it anyway.
    """

    track_id: int
    path: str
    source: str
    size: int
    mtime_ns: int | None
    known_hash: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """A batch to measure and commit.

    Attributes
    ----------
    store : str
        Path or URL of the store.
    batch : str
        Name that the batch will have.
    token : str
        Token of the lock that must still hold when the batch is committed.
    items : tuple of Item
        Its files.
    timeout_s : float
        Seconds that one file may take.
    fault : tuple of (str, str) or None
        (kind, message) where reading the files took a worker down: they are recorded as failures and not decoded.
    """

    store: str
    batch: str
    token: str
    items: tuple[Item, ...]
    timeout_s: float
    fault: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of the files of a batch.

    Attributes
    ----------
    tracks, excerpts, failed : int
        Tracks measured, rows of `excerpts`, and rows of `failures`.
    unchanged : tuple of (int, str, int or None)
        (track_id, hash, mtime_ns) of files whose content is the recorded one.
    """

    tracks: int = 0
    excerpts: int = 0
    failed: int = 0
    unchanged: tuple[tuple[int, str, int | None], ...] = ()

    @property
    def files(self) -> int:
        """How many files the batch was given: measured, failed or unchanged.

        Returns
        -------
        int
        """
        return self.tracks + self.failed + len(self.unchanged)

    def __add__(self, other: Result) -> Result:
        return Result(
            self.tracks + other.tracks,
            self.excerpts + other.excerpts,
            self.failed + other.failed,
            (*self.unchanged, *other.unchanged),
        )
