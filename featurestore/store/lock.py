"""One writer at a time. Readers take no lock and are never blocked.

On a disk the lock is `flock` on `build.lock`, which the system gives up when the process that holds it is gone; the
workers of a build end with it. On an object store it is the object `build.lock`, made by a conditional put, which only
one of two can win. If its holder dies it stays, until somebody who knows that says `gc --break-lock`: no clock decides.
The file holds who has the lock, and a token that everyone who commits compares before: who lost the lock commits
nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import fcntl
import json
import os
import posixpath
import socket
import uuid
from collections.abc import Iterator
from typing import Any

from featurestore.errors import FeatureStoreError, StoreBusy
from featurestore.store import files, places

LOCK = places.LOCK


@dataclasses.dataclass(frozen=True)
class Lock:
    """The right to write to a store.

    Parameters
    ----------
    token : str
        32 hexadecimal digits that stand in the lock file for as long as the right lasts.
    """

    token: str


@contextlib.contextmanager
def hold(fs: Any, root: str, purpose: str) -> Iterator[Lock]:
    """Hold the lock of a store while the block runs.

    Parameters
    ----------
    fs, root
        The store's folder, as `files.resolve` gives it.
    purpose : str
        What is done, for the message to those who come meanwhile.

    Yields
    ------
    Lock

    Raises
    ------
    StoreBusy
        If another process has it; the message names that process.
    UsageError
        If the place is somebody else's, see `places.require_own`.
    FeatureStoreError
        If the lock cannot be written.
    """
    places.require_own(fs, root)
    path = posixpath.join(root, LOCK)
    holder: dict[str, Any] = {
        "token": uuid.uuid4().hex,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "purpose": purpose,
    }
    with _hold_file(fs, path, holder) if files.is_local(fs) else _hold_object(fs, path, holder):
        yield Lock(holder["token"])


def require(fs: Any, root: str, token: str) -> None:
    """Raise StoreBusy unless the holder with this token still has the lock of the store at `root`."""
    path = posixpath.join(root, LOCK)
    holder = _read(fs, path)
    if holder.get("token") != token:
        raise StoreBusy(f"{path}: this command no longer has the lock{_who(holder)}; nothing was committed", _HINT)


def break_lock(fs: Any, root: str) -> None:
    """Take the lock away from whoever has it: should the holder be alive, it commits nothing more."""
    files.remove(fs, posixpath.join(root, LOCK))


_HINT = "Wait until it is done, or use another store with --store."
_HINT_OBJECT = f"{_HINT} If that process is gone: python -m featurestore gc --break-lock"


def _who(holder: dict[str, Any]) -> str:
    if not holder:
        return ""
    return " (held by {purpose}: process {pid} on {host}, since {since})".format_map(
        {k: holder.get(k, "?") for k in ("purpose", "pid", "host", "since")}
    )


def _read(fs: Any, path: str) -> dict[str, Any]:
    """The holder that the lock file names; {} where there is none (or it is just being written)."""
    try:
        holder = json.loads(files.read_bytes(fs, path))
    except (FileNotFoundError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


@contextlib.contextmanager
def _hold_file(fs: Any, path: str, holder: dict[str, Any]) -> Iterator[None]:
    fd = _open_locked(fs, path)
    try:
        os.truncate(fd, 0)
        os.write(fd, json.dumps(holder).encode())
        yield
    finally:
        # removed before it is released: whoever opened the old file sees that it is no longer the lock
        if _is_at(fd, path):
            os.unlink(path)
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _open_locked(fs: Any, path: str) -> int:
    while True:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
            files.require_regular(fs, path)
        except FileNotFoundError:
            continue  # the holder before us removed it just now
        except OSError as error:
            raise FeatureStoreError(
                f"{path}: cannot be written ({error.strerror or error})", "Check the permissions of the store's folder."
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, path):
                return fd
            os.close(fd)  # the holder before us removed it: this is no longer the lock
        except BlockingIOError:
            os.close(fd)
            raise StoreBusy(f"{os.path.dirname(path)} is in use{_who(_read(fs, path))}", _HINT) from None


def _is_at(fd: int, path: str) -> bool:
    """Whether the open file is the one that the path names."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), os.stat(path))
    return False


@contextlib.contextmanager
def _hold_object(fs: Any, path: str, holder: dict[str, Any]) -> Iterator[None]:
    if not _create(fs, path, holder):
        raise StoreBusy(f"{posixpath.dirname(path)} is in use{_who(_read(fs, path))}", _HINT_OBJECT)
    try:
        yield
    finally:
        if _read(fs, path).get("token") == holder["token"]:
            files.remove(fs, path)


def _create(fs: Any, path: str, holder: dict[str, Any]) -> bool:
    try:
        fs.pipe_file(path, json.dumps(holder).encode(), mode="create")
    except FileExistsError:
        # ours, if the answer to a first attempt was lost and the client asked again
        return _read(fs, path).get("token") == holder["token"]
    except OSError as error:
        raise FeatureStoreError(
            f"{path}: cannot be written ({error})", "Check the credentials and the bucket."
        ) from None
    return True
