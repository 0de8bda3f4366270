"""A web server that can misbehave, and small archives with the layout of FMA's."""

from __future__ import annotations

import functools
import hashlib
import io
import random
import socket
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GENRES = ("Folk", "Rock")
SPLITS = ("training",) * 16 + ("validation",) * 2 + ("test",) * 2  # of each genre: 80/10/10


class Site(ThreadingHTTPServer):
    """Files by path; a log of (path, Range, body bytes sent); and ways to misbehave."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes | Path] = {}
        self.log: list[tuple[str, str, int]] = []
        self.ranges = True
        self.cuts: list[int | None] = []  # after how many bytes the next bodies are cut off; None: not at all
        self.statuses: list[int] = []  # what the next requests get instead of a file
        self.drip_s = 0.0
        self.lie_about_length = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/fma"

    @property
    def sent(self) -> int:
        return sum(entry[2] for entry in self.log)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site, asked = self.server, self.headers.get("Range", "")
        if site.statuses:
            return self._empty(site.statuses.pop(0))
        if self.path.startswith("/moved/"):
            return self._empty(302, Location="/fma/" + self.path.removeprefix("/moved/"))
        body = site.files.get(self.path.removeprefix("/fma/"))
        if body is None:
            return self._empty(404)
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        start, stop, status = 0, size, 200
        if asked and site.ranges:
            first, last = asked.removeprefix("bytes=").split("-")
            start = int(first) if first else max(0, size - int(last))
            stop = min(size, int(last) + 1) if first and last else size
            if start >= size:
                return self._empty(416, **{"Content-Range": f"bytes */{size}"})
            status = 206
        self.send_response(status)
        self.send_header("Content-Length", str(stop - start + site.lie_about_length))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        self._send(body, start, stop, asked)

    def _send(self, body: bytes | Path, start: int, stop: int, asked: str) -> None:
        site = self.server
        cut = site.cuts.pop(0) if site.cuts else None
        if isinstance(body, bytes):
            data = body[start:stop]
        else:
            with body.open("rb") as file:
                file.seek(start)
                data = file.read(stop - start)
        data = data if cut is None else data[:cut]
        site.log.append((self.path, asked, len(data)))
        step = 1 if site.drip_s else 1 << 16
        for at in range(0, len(data), step):
            self.wfile.write(data[at : at + step])
            time.sleep(site.drip_s)
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _empty(self, status: int, **headers: str) -> None:
        self.server.log.append((self.path, self.headers.get("Range", ""), 0))
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@functools.cache
def clip(track_id: int) -> bytes:
    return random.Random(track_id).randbytes(60_000 + track_id)  # does not compress, as MP3 does not


def ids() -> list[int]:
    return [genre * 1000 + n + 2 for genre in range(len(GENRES)) for n in range(len(SPLITS))]


def path_of(track_id: int) -> str:
    return f"{track_id // 1000:03d}/{track_id:06d}.mp3"


@functools.cache
def small_zip(*checksums: tuple[int, str]) -> bytes:
    """A zip with the layout of fma_small.zip; `checksums` are given in place of the clips' own."""
    out = io.BytesIO()
    sums = {i: hashlib.sha1(clip(i)).hexdigest() for i in ids()} | dict(checksums)
    listing = "".join(f"{h}  {path_of(i)}\n" for i, h in sums.items())
    texts = {"README.txt": b"This .zip archive is part of a test.", "checksums": listing.encode()}
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in (texts | {path_of(i): clip(i) for i in ids()}).items():
            # a ZipInfo of our own has a fixed date: the same bytes every time
            archive.writestr(zipfile.ZipInfo(f"fma_small/{name}"), data, zipfile.ZIP_BZIP2)
    return out.getvalue()


def tracks_csv() -> str:
    rows = [",set,set,track", ",split,subset,genre_top", "track_id,,,"]
    for i in ids():
        rows.append(f"{i},{SPLITS[i % 1000 - 2]},small,{GENRES[i // 1000]}")
    # tracks that must not be chosen: no top genre; another subset; a clip that is known to be empty
    rows += ["5000,training,small,", "5001,training,medium,Folk", "98558,training,small,Folk"]
    return "\n".join(rows) + "\n"


def metadata_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("fma_metadata/tracks.csv", tracks_csv())
        archive.writestr("fma_metadata/genres.csv", "genre_id,#tracks,parent,title,top_level\n17,0,0,Folk,17\n")
    return out.getvalue()


def left_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
