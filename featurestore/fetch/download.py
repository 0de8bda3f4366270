"""A whole file: resumed where it stopped, hashed as it arrives, in place only when the hash is right."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from featurestore.errors import FeatureStoreError, StoreBusy
from featurestore.fetch.web import Answer, Host, Interrupted, Tries
from featurestore.terminal import progress

PART, VERSION = ".part", ".part.version"
ENOUGH = 1 << 20  # a try that brought this much counts as progress
MARGIN = 1.1  # sizes are published rounded, and a hostile host must not fill the disk
MB = 1e6


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a FeatureStoreError about `path`."""
    try:
        yield
    except OSError as error:
        raise FeatureStoreError(
            f"{path}: cannot be read or written ({error.strerror or error})",
            "Check free space and permissions: what is complete is kept, and the same command goes on from there.",
        ) from None


def download(host: Host, url: str, target: Path, *, sha1: str, published_bytes: int) -> None:
    """Get `url` to `target`. Until the SHA-1 is right the data are in `target`.part, where a later call resumes.

    Raises FeatureStoreError: wrong hash (nothing is left behind), host gone for good or sending much more than the
    published (rounded) size, disk full (what arrived is kept); StoreBusy where another process downloads there.
    """
    part_path, version_path = Path(f"{target}{PART}"), Path(f"{target}{VERSION}")
    with disk_errors(part_path), _held(part_path, version_path) as file:
        part = _Part(file, part_path)
        _receive_all(host, url, part, version_path, published_bytes)
        found = part.finish()
        if found != sha1:
            part.restart()
            raise FeatureStoreError(
                f"{url}: its SHA-1 is {found}, expected {sha1}",
                "The file is damaged or not the one that FMA published; nothing was kept. Run the command again.",
            )
        os.replace(part_path, target)


def check(path: Path, sha1: str) -> None:
    """Raise FeatureStoreError unless the file has this SHA-1."""
    digest = hashlib.sha1(usedforsecurity=False)
    size = path.stat().st_size / MB
    with disk_errors(path), path.open("rb") as file, progress.bar(f"checking {path.name} (MB)", size) as bar:
        while block := file.read(1 << 20):
            digest.update(block)
            bar.advance(len(block) / MB)
    if digest.hexdigest() != sha1:
        raise FeatureStoreError(
            f"{path}: its SHA-1 is {digest.hexdigest()}, expected {sha1}",
            "It is damaged or not the file that FMA published: remove it and run the command again.",
        )


def check_space(folder: Path, wanted: int) -> None:
    """Raise FeatureStoreError unless the disk of `folder` has room for `wanted` more bytes."""
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise FeatureStoreError(
            f"{folder}: {wanted / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free",
            "Free some space, or name another disk with --output.",
        )


class _Part:
    """The bytes so far and their running hash."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self.path = file, path
        self._digest = hashlib.sha1(usedforsecurity=False)
        self.size = 0
        while block := file.read(1 << 20):
            self._digest.update(block)
            self.size += len(block)

    def restart(self) -> None:
        """Throw away what is there."""
        self._file.seek(0)
        self._file.truncate()
        self._digest, self.size = hashlib.sha1(usedforsecurity=False), 0

    def write(self, block: bytes) -> None:
        """Append a block."""
        left = memoryview(block)
        while left:  # an unbuffered write may take less than it is given
            left = left[self._file.write(left) :]
        self._digest.update(block)
        self.size += len(block)

    def finish(self) -> str:
        """Bytes to the disk; their hash."""
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()


@contextlib.contextmanager
def _held(path: Path, version_path: Path) -> Iterator[BinaryIO]:
    """The partial file, kept from other processes; it and its version are removed if nothing is in it at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(f"{path}: another process is downloading to it", "Wait until it has finished.") from None
        if not path.exists():  # the other process finished between our opening and our locking
            raise StoreBusy(f"{path}: another process just finished with it", "Run the command again.")
        file.seek(0)
        try:
            yield file
        finally:
            if not path.exists() or not path.stat().st_size:
                path.unlink(missing_ok=True)
                version_path.unlink(missing_ok=True)


def _receive_all(host: Host, url: str, part: _Part, version_path: Path, published_bytes: int) -> None:
    """Append to `part` until it is complete."""
    tries = Tries(host.patience, url)
    with progress.bar(f"{url.rsplit('/', 1)[-1]} (MB)", published_bytes / MB) as bar:
        bar.advance(part.size / MB)
        while True:
            before = host.received
            try:
                for n in _receive(host, url, part, version_path, int(MARGIN * published_bytes)):
                    bar.advance(n / MB)
                return
            except Interrupted as reason:
                if host.received - before >= ENOUGH:
                    tries.succeeded()
                tries.failed(reason)


def _receive(host: Host, url: str, part: _Part, version_path: Path, max_bytes: int) -> Iterator[int]:
    """One request: write what comes, yield the size of each block."""
    version = version_path.read_text() if part.size and version_path.exists() else ""
    answer = host.get(url, f"{part.size}-" if part.size else "", version)
    if answer.status == 416:
        answer.close()
        if answer.total == part.size:
            return
        part.restart()
        raise Interrupted(f"the host has {answer.total} bytes, fewer than were there")
    _prepare(url, part, answer, max_bytes)
    version_path.write_text(answer.validator)
    for block in answer.blocks():
        if part.size + len(block) > (answer.total or max_bytes):
            answer.close()
            raise FeatureStoreError(f"{url}: the host sends more than the {answer.total or max_bytes} bytes expected")
        part.write(block)
        yield len(block)
    if answer.total is not None and part.size < answer.total:
        raise Interrupted(f"the host closed after {part.size} of {answer.total} bytes")


def _prepare(url: str, part: _Part, answer: Answer, max_bytes: int) -> None:
    """Make `part` end where the answer begins; see that what comes fits."""
    if answer.start != part.size:
        if answer.status == 206:
            answer.close()
            raise FeatureStoreError(f"{url}: asked from byte {part.size}, the host sent from byte {answer.start}")
        part.restart()
    if (answer.total or 0) > max_bytes:
        answer.close()
        raise FeatureStoreError(
            f"{url}: the host announces {answer.total} bytes, more than the {max_bytes} that are possible",
            "Check --base-url: this is not the file that FMA published.",
        )
    check_space(part.path.parent, (answer.total or 0) - part.size)
