"""The only files that DuckDB may open: those of one snapshot of one store, for reading.

Registered with a connection under `store://`, on a disk and on an object store alike. With DuckDB's own access to
files switched off, this is what makes `COPY ... TO` over the store impossible: allowed paths alone do not, they may
be written as well as read (tried with DuckDB 2.0.0: `COPY ... TO (USE_TMP_FILE false)` emptied an allowed file).
"""

from __future__ import annotations

import datetime as dt
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from fsspec.spec import AbstractFileSystem

from featurestore.store import files
from featurestore.store.store import Store

PROTOCOL = "store"
PREFIX = f"{PROTOCOL}://"
_UNCHANGING = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)

ReadAt = Callable[[int, int], bytes]  # (start, number of bytes)


class SnapshotFiles(AbstractFileSystem):  # type: ignore[misc]
    """An fsspec filesystem over named files of a store: `store://excerpts/<batch>.parquet`.

    Parameters
    ----------
    store : Store
        Where the files are.
    names : iterable of str
        Paths relative to the store that may be opened; any other does not exist here.
    """

    protocol = PROTOCOL
    cachable = False

    def __init__(self, store: Store, names: Iterable[str] = ()) -> None:
        super().__init__()
        self._store = store
        self._names = set(names)
        self._local = files.is_local(store.fs)
        self._held: dict[str, int] = {}  # file descriptors kept open until this object goes
        weakref.finalize(self, _close, self._held)

    def show(self, names: Iterable[str], *, pinned: bool = False) -> None:
        """Let more files be opened.

        Parameters
        ----------
        names : iterable of str
            Paths relative to the store.
        pinned : bool
            Open those of a disk now: a file that is replaced in place later stays as it was.

        Raises
        ------
        FileNotFoundError
            If a pinned file is not there.
        """
        names = set(names)
        self._names |= names
        if pinned and self._local:
            self._held.update({n: os.open(self._store.path(n), os.O_RDONLY) for n in names - self._held.keys()})

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix(PREFIX)

    def exists(self, path: str, **_: Any) -> bool:
        """Whether a file may be opened.

        Parameters
        ----------
        path : str
            `store://<name>`, or the name alone.

        Returns
        -------
        bool
        """
        return self._strip_protocol(path) in self._names

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file of that very name, if it may be opened; a pattern matches none.

        Parameters
        ----------
        path : str
            `store://<name>`, or the name alone.

        Returns
        -------
        list of str
            One name at most.
        """
        return [self._strip_protocol(path)] if self.exists(path) else []

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What fsspec asks of a file.

        Parameters
        ----------
        path : str
            `store://<name>`, or the name alone.

        Returns
        -------
        dict
            name, size in bytes, type.

        Raises
        ------
        FileNotFoundError
            If it may not be opened, or is gone.
        """
        name = self._known(path)
        return {"name": name, "size": self._size(name), "type": "file"}

    def modified(self, path: str) -> dt.datetime:
        """The same instant for every file: a snapshot's files never change, and DuckDB keeps what it read of them.

        Parameters
        ----------
        path : str

        Returns
        -------
        datetime.datetime
        """
        return _UNCHANGING

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Open a file for reading, from several threads at once.

        Parameters
        ----------
        path : str
            `store://<name>`, or the name alone.
        mode : str
            `r` or `rb`; both give bytes.

        Returns
        -------
        file
            With seek, tell, read and close.

        Raises
        ------
        PermissionError
            If it is to be written.
        FileNotFoundError
            If it may not be opened, or is gone.
        """
        if mode.strip("bt") != "r":
            raise PermissionError(f"{path}: the store is read-only here")
        name = self._known(path)
        size = self._size(name)
        if name in self._held:
            return _Handle(_pread(self._held[name]), size)
        where = self._store.path(name)
        if self._local:
            fd = self._present(name, lambda: os.open(where, os.O_RDONLY))
            return _Handle(_pread(fd), size, fd)
        fs = self._store.fs
        return _Handle(lambda start, n: fs.cat_file(where, start=start, end=start + n), size)

    def _known(self, path: str) -> str:
        name = self._strip_protocol(path)
        if not self.exists(name):
            raise FileNotFoundError(f"{path}: not a file of this snapshot of the store")
        return name

    def _size(self, name: str) -> int:
        if name in self._held:
            return os.fstat(self._held[name]).st_size
        where = self._store.path(name)
        return int(self._present(name, lambda: os.stat(where).st_size if self._local else self._store.fs.size(where)))

    def _present(self, name: str, look: Callable[[], int]) -> int:
        try:
            return look()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{name}: this file of the store is gone; it was compacted and cleaned up since this connection was"
                " opened (connect again), or lost (run `python -m featurestore verify`)"
            ) from None


def _pread(fd: int) -> ReadAt:
    return lambda start, n: os.pread(fd, n, start)


def _close(descriptors: dict[str, int]) -> None:
    for fd in descriptors.values():
        os.close(fd)


class _Handle:
    """A file for DuckDB, which seeks and then reads in two calls, from several threads, on one handle.

    Each thread therefore has its own position; with one position the threads read each other's bytes (seen as
    "ZSTD Decompression failure").
    """

    def __init__(self, read_at: ReadAt, size: int, fd: int | None = None) -> None:
        self._read_at = read_at
        self._size = size
        self._here = threading.local()
        self._release = weakref.finalize(self, os.close, fd) if fd is not None else None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        self._here.position = base + offset
        return base + offset

    def tell(self) -> int:
        return getattr(self._here, "position", 0)

    def read(self, n: int = -1) -> bytes:
        start = self.tell()
        left = max(0, self._size - start)
        data = self._read_at(start, left if n < 0 else min(n, left)) if left and n else b""
        self._here.position = start + len(data)
        return data

    def close(self) -> None:
        if self._release:
            self._release()
