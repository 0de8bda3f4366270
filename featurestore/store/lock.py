"""One writer at a time. Readers take no lock and are never blocked.

On a disk the lock is `flock` on `build.lock`, and the workers of a build inherit the open file: the system gives it
up when the last of them is gone, so a store whose build died is free again as soon as nothing can write to it any
more. On an object store it is the object `build.lock`, made by a conditional put and renewed every few seconds; one
that was not renewed for a minute is taken over. The file holds who has the lock, and a token that workers compare
before they commit.
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
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from featurestore.errors import FeatureStoreError, StoreBusy
from featurestore.store import files

LOCK = "build.lock"
HEARTBEAT_S = 10.0
EXPIRY_S = 60.0
_DYING_S = 15.0  # how long the workers of a dead build may take to notice


@dataclasses.dataclass(frozen=True)
class Lock:
    """The right to write to a store; `fd` is the open lock file on a disk, for workers to inherit."""

    fs: Any
    path: str
    token: str
    fd: int | None


@contextlib.contextmanager
def hold(fs: Any, root: str, purpose: str) -> Iterator[Lock]:
    """Hold the lock of the store at `root`. Raises StoreBusy, naming the holder, where another process has it."""
    path = posixpath.join(root, LOCK)
    holder = {
        "token": uuid.uuid4().hex,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "purpose": purpose,
    }
    with _hold_file(fs, path, holder) if files.is_local(fs) else _hold_object(fs, path, holder) as lock:
        yield lock


def require(fs: Any, root: str, token: str) -> None:
    """Raise StoreBusy unless the holder with this token still has the lock."""
    path = posixpath.join(root, LOCK)
    holder = _read(fs, path)
    if holder.get("token") != token:
        raise StoreBusy(f"{path}: this build no longer has the lock{_who(holder)}; nothing was committed", _HINT)


_HINT = "Wait until it is done, or use another store with --store."


def _who(holder: dict[str, Any]) -> str:
    if not holder:
        return ""
    return " (held by {purpose}: process {pid} on {host}, since {since})".format_map(
        {k: holder.get(k, "?") for k in ("purpose", "pid", "host", "since")}
    )


def _read(fs: Any, path: str) -> dict[str, Any]:
    """The holder that the lock file names; {} where there is none (or it is just being written)."""
    try:
        holder = json.loads(fs.cat_file(path))
    except (FileNotFoundError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


@contextlib.contextmanager
def _hold_file(fs: Any, path: str, holder: dict[str, Any]) -> Iterator[Lock]:
    fd = _open_locked(fs, path)
    try:
        os.truncate(fd, 0)
        os.write(fd, json.dumps(holder).encode())
        yield Lock(fs, path, str(holder["token"]), fd)
    finally:
        # gone before it is free: whoever waits for the old file sees that it is no longer the lock
        with contextlib.suppress(OSError):
            os.unlink(path)
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _open_locked(fs: Any, path: str) -> int:
    deadline = time.monotonic() + _DYING_S
    while True:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise FeatureStoreError(
                f"{path}: cannot be written ({error.strerror or error})", "Check the permissions of the store's folder."
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
            os.close(fd)  # the holder before us removed it: this is no longer the lock
        except BlockingIOError:
            os.close(fd)
            holder = _read(fs, path)
            if not _about_to_end(holder) or time.monotonic() > deadline:
                raise StoreBusy(f"{os.path.dirname(path)} is in use{_who(holder)}", _HINT) from None
            time.sleep(0.05)


def _about_to_end(holder: dict[str, Any]) -> bool:
    """Whether the lock is held only by workers whose build is dead, or by one that has not signed it yet."""
    if not holder:
        return True
    if holder.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, KeyError, ValueError):
        pass
    return False


@contextlib.contextmanager
def _hold_object(fs: Any, path: str, holder: dict[str, Any]) -> Iterator[Lock]:
    holder["beat"] = time.time()
    if not _create(fs, path, holder):
        other = _read(fs, path)
        if time.time() - float(other.get("beat", 0)) < EXPIRY_S:
            raise StoreBusy(f"{posixpath.dirname(path)} is in use{_who(other)}", _HINT)
        files.remove(fs, path)
        if not _create(fs, path, holder):
            raise StoreBusy(f"{posixpath.dirname(path)} is in use{_who(_read(fs, path))}", _HINT)
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(fs, path, holder, done), daemon=True)
    beat.start()
    try:
        yield Lock(fs, path, str(holder["token"]), None)
    finally:
        done.set()
        beat.join(HEARTBEAT_S)
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


def _beat(fs: Any, path: str, holder: dict[str, Any], done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        # a beat that fails is made up for by the next one; after EXPIRY_S without one the lock is anyone's
        with contextlib.suppress(Exception):
            if _read(fs, path).get("token") != holder["token"]:
                return
            fs.pipe_file(path, json.dumps({**holder, "beat": time.time()}).encode())
