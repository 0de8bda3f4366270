"""A file on a web server, read in pieces: what `zipfile` needs to take a few members out of a large archive."""

from __future__ import annotations

import io

from featurestore.errors import FeatureStoreError
from featurestore.fetch.web import Answer, Host, Interrupted, Tries

TAIL = 1 << 16  # the end of a zip's directory, in most cases all of it for a small zip
BLOCK = 1 << 20
MAX_PIECE = 1 << 27  # held in memory; the directory of the largest archive takes 10 MB


class RangesRefused(FeatureStoreError):
    """The host sends whole files only."""


class RemoteFile(io.RawIOBase):
    """Seekable bytes of `url`, fetched by HTTP range requests and checked to be one version of the file.

    Raises RangesRefused where the host ignores ranges, FeatureStoreError where it fails for good or the file changes
    meanwhile.
    """

    def __init__(self, host: Host, url: str) -> None:
        super().__init__()
        self.url = url
        self._host, self._at, self._validator = host, 0, ""
        self._size: int | None = None
        self._start, self._data = self._fetch(f"-{TAIL}")

    @property
    def size(self) -> int:
        """Bytes in the whole file."""
        return self._size or 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is fetched."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(22, "negative seek position")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from the place reached; less only at the end of the file."""
        wanted = max(0, min(len(buffer), self.size - self._at))
        done = 0
        while done < wanted:
            if not self._start <= self._at < self._start + len(self._data):
                self.prefetch(self._at, self._at + max(BLOCK, wanted - done))
            here = self._at - self._start
            piece = self._data[here : here + wanted - done]
            buffer[done : done + len(piece)] = piece
            done += len(piece)
            self._at += len(piece)
        return done

    def prefetch(self, start: int, stop: int) -> None:
        """Fetch bytes start to stop (excluded) in one request; reads within them then need no other."""
        stop = min(stop, self.size)
        if stop - start > MAX_PIECE:
            raise FeatureStoreError(f"{self.url}: a piece of {stop - start} bytes is wanted: the zip is damaged")
        if not (self._start <= start and stop <= self._start + len(self._data)):
            self._start, self._data = self._fetch(f"{start}-{stop - 1}")

    def _fetch(self, span: str) -> tuple[int, bytes]:
        tries = Tries(self._host.patience, self.url)
        while True:
            try:
                answer = self._host.get(self.url, span, self._validator)
                self._check(answer, span)
                return answer.start, self._body(answer, span)
            except Interrupted as reason:
                tries.failed(reason)

    def _check(self, answer: Answer, span: str) -> None:
        """The answer is the range asked for, of the version that was opened."""
        if self._size is None and answer.status == 206 and answer.total is not None:
            self._size, self._validator = answer.total, answer.validator
        if answer.status == 206 and answer.total == self._size and answer.validator == self._validator:
            return
        answer.close()
        if self._size is not None:
            raise FeatureStoreError(f"{self.url}: the file changed while it was read", "Run the command again.")
        if answer.status == 200:
            raise RangesRefused(
                f"{self.url}: the host does not serve parts of a file (it answered a range with all of it)",
                "Add --whole-file to download the whole archive and take the same tracks from it.",
            )
        raise FeatureStoreError(f"{self.url}: the host has no bytes {span} of it", "Check --base-url.")

    def _body(self, answer: Answer, span: str) -> bytes:
        first, last = span.split("-")
        start = int(first) if first else max(0, self.size - int(last))
        length = min(int(last) + 1 if first else self.size, self.size) - start
        if answer.start != start:
            answer.close()
            raise FeatureStoreError(f"{self.url}: asked for bytes from {start}, the host sent from {answer.start}")
        data = bytearray()
        for block in answer.blocks():
            data += block
            if len(data) > length:
                answer.close()
                raise FeatureStoreError(f"{self.url}: asked for {length} bytes, the host sends more")
        if len(data) < length:
            raise Interrupted(f"{len(data)} of {length} bytes came")
        return bytes(data)
