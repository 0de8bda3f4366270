"""FMA's host over HTTP: a file read by ranges, and a download that resumes.

A fault that may pass (a cut connection, a silent or overloaded host) is tried again, any other is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pooch
import requests
from fsspec.spec import AbstractBufferedFile

from featurestore.errors import FeatureStoreError, StoreBusy
from featurestore.terminal import progress, words

AHEAD = 1 << 16  # bytes read beyond what is asked for, for the many small reads of a zip's headers
PIECE = 1 << 23  # bytes of one request of a download; a fault costs no more
_NETWORK = "Check the network and --base-url (github.com/mdeff/fma has it). The same command goes on from here."
_MAY_PASS = (408, 425, 429, 500, 502, 503, 504)


class RangesRefused(FeatureStoreError):
    """The host sends whole files only."""


class RemoteFile(AbstractBufferedFile):
    """A file on a web server, read in pieces.

    Parameters
    ----------
    url : str
        Where it is.
    timeout_s : float
        Seconds for which the host may be silent.
    retries : int
        Further tries for a piece after a fault that may pass.
    backoff_s : float
        Seconds before the first of them; each next one waits twice as long, at most 60 s.

    Attributes
    ----------
    received : int
        Bytes that came so far.

    Raises
    ------
    RangesRefused
        The host ignores ranges.
    FeatureStoreError
        The host fails for good.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0, retries: int = 4, backoff_s: float = 1.0) -> None:
        self.closed = True  # for fsspec's destructor, if the host refuses
        self.received, self.path = 0, url
        self._timeout_s, self._retries, self._backoff_s = timeout_s, retries, backoff_s
        self._session = requests.Session()
        # byte offsets in a compressed transfer would mean something else
        self._session.headers["Accept-Encoding"] = "identity"
        self._fetch_range(0, 1)
        super().__init__(None, url, block_size=AHEAD, size=self.size)

    def _fetch_range(self, start: int, end: int) -> bytes:
        failures = 0
        while True:
            try:
                return self._get(start, end)
            except requests.RequestException as error:
                failures += 1
                if failures > self._retries or not _may_pass(error):
                    raise FeatureStoreError(f"{self.path}: {error}", _NETWORK) from None
                words.note(f"{self.path}: {error}; trying again ({failures} of {self._retries})")
                time.sleep(min(60, self._backoff_s * 2 ** (failures - 1)))

    def _get(self, start: int, end: int) -> bytes:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        with self._session.get(self.path, headers=headers, stream=True, timeout=self._timeout_s) as response:
            response.raise_for_status()
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if not total.isdecimal():
                raise RangesRefused(
                    f"{self.path}: the host does not serve parts of a file (status {response.status_code}, not 206)",
                    "Add --whole-file to download the whole archive and take the same tracks from it.",
                )
            self.size = int(total)
            data = next(response.iter_content(end - start), b"")
        self.received += len(data)
        if len(data) < end - start:
            raise requests.ConnectionError(f"{len(data)} of {end - start} bytes came")
        return data


def _may_pass(error: requests.RequestException) -> bool:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in _MAY_PASS
    return not isinstance(error, ValueError)  # the address itself is not valid


def download(remote: Callable[[], RemoteFile], url: str, target: Path, sha1: str, *, piece: int = PIECE) -> int:
    """Get a file, unless one with this SHA-1 is at `target`.

    Until it is complete the data are in `target`.part, where a later call goes on. With a wrong hash nothing is kept.

    Parameters
    ----------
    remote : Callable[[], RemoteFile]
        Opens the file on the host.
    url : str
        Where it is, for a host that does not serve ranges; from that one it comes whole, or not at all.
    target : Path
        Where it is to be.
    sha1 : str
        The hash that the file must have.
    piece : int
        Bytes to ask for at a time.

    Returns
    -------
    int
        Bytes received.

    Raises
    ------
    FeatureStoreError
        A wrong hash, a host that fails for good, no room.
    StoreBusy
        Another process downloads to the same place.
    """
    received = 0

    def downloader(url: str, output: str, _: object) -> None:
        nonlocal received
        part = Path(f"{target}.part")
        with _held(part) as file:
            try:
                received = _resume(remote, file, piece)
                os.replace(part, output)
            except RangesRefused:
                pooch.HTTPDownloader()(url, output, None)
                received = os.path.getsize(output)

    try:
        pooch.retrieve(url, f"sha1:{sha1}", target.name, target.parent, downloader=downloader)
    except requests.RequestException as error:
        raise FeatureStoreError(f"{url}: {error}", _NETWORK) from None
    except ValueError as error:  # pooch's word on the hash that was found and the one expected
        raise FeatureStoreError(f"{url}: {error}", "Run the command again.") from None
    return received


def _resume(remote: Callable[[], RemoteFile], file: BinaryIO, piece: int) -> int:
    """Append what `file` lacks; bytes received."""
    with remote() as source:
        size = file.seek(0, os.SEEK_END)
        check_space(Path(file.name).parent, source.size - size)
        source.seek(size)
        with progress.bar(f"{Path(file.name).stem} (MB)", source.size / 1e6) as bar:
            bar.advance(size / 1e6)
            while block := source.read(piece):
                file.write(block)
                bar.advance(len(block) / 1e6)
        return source.received


@contextlib.contextmanager
def _held(path: Path) -> Iterator[BinaryIO]:
    """The partial file, open for appending and kept from other processes; an empty one is removed at the end."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(f"{path}: another process is downloading to it", "Wait until it has finished.") from None
        try:
            yield file
        finally:
            if not os.fstat(file.fileno()).st_size:
                path.unlink(missing_ok=True)


def check_space(folder: Path, wanted: int) -> None:
    """Make sure that a disk has room.

    Parameters
    ----------
    folder : Path
        On that disk.
    wanted : int
        Bytes to come.

    Raises
    ------
    FeatureStoreError
        Fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise FeatureStoreError(
            f"{folder}: {wanted / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free",
            "Free some space, or name another disk with --output.",
        )
