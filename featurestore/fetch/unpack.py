"""Members out of a zip that nobody has vouched for: names, kinds and sizes are checked before a byte is written."""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import os
import stat
import struct
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from featurestore.errors import FeatureStoreError
from featurestore.fetch.download import check_space, disk_errors
from featurestore.store.files import TEMPORARY

MAX_RATIO = 250  # bytes out per byte in; FMA's tables, the most compressible, reach 4
SMALL = 1 << 20  # below this the ratio is not worth a refusal
BLOCK = 1 << 20
_AGAIN = "Remove the archive if you keep it on disk, and run the command again."
# what Python's zipfile and the decompressors raise on bytes that make no sense
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)
_NOTHING = "The file is not the one that FMA published; nothing of it was extracted."


@contextlib.contextmanager
def opened(file: BinaryIO | io.RawIOBase, label: str) -> Iterator[zipfile.ZipFile]:
    """A zip archive. Raises FeatureStoreError where it is none."""
    try:
        archive = zipfile.ZipFile(file)  # type: ignore[arg-type]
    except (*_DAMAGE, OSError) as error:
        raise FeatureStoreError(f"{label}: not a zip archive that can be read ({error})", _NOTHING) from None
    with archive:
        yield archive


def members(archive: zipfile.ZipFile, root: str, label: str) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by their path within the folder `root`, all of them checked.

    Raises FeatureStoreError for a member outside `root`, a name that leads elsewhere, a link or device, an encrypted
    or repeated member, or sizes that no honest archive of this length holds.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        fault = _fault(info, root)
        name = info.filename.removeprefix(f"{root}/")
        if not fault and name in found:
            fault = "is there twice"
        if fault:
            raise FeatureStoreError(f"{label}: member {info.orig_filename!r} {fault}", _NOTHING)
        if not info.is_dir():
            found[name] = info
    out, packed = sum(i.file_size for i in found.values()), sum(i.compress_size for i in found.values())
    if out > SMALL and out > MAX_RATIO * packed:
        raise FeatureStoreError(f"{label}: {packed} bytes claim to hold {out}", _NOTHING)
    return found


def _fault(info: zipfile.ZipInfo, root: str) -> str:
    """What is wrong with a member, "" for nothing."""
    name = info.orig_filename
    if "\\" in name or ":" in name or not name.isprintable():
        return "has a name that is not a plain relative path"
    parts = name.removesuffix("/").split("/")
    if any(p in ("", ".", "..") for p in parts):
        return "has a name that leads out of its folder"
    if parts[0] != root or (len(parts) == 1 and not info.is_dir()):
        return f"is not in the folder {root}"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & 0x1:
        return "is encrypted"
    return ""


def extract(
    archive: zipfile.ZipFile,
    wanted: Mapping[str, zipfile.ZipInfo],
    folder: Path,
    *,
    label: str,
    sha1: Mapping[str, str] | None = None,
    before: Callable[[zipfile.ZipInfo], None] | None = None,
) -> Iterator[int]:
    """Write the members to `folder` under their paths, each complete or not at all; yield the size of each.

    zipfile checks every member's CRC-32; `sha1` adds hashes for the paths it names. `before` is called ahead of each
    member. Raises FeatureStoreError on damage or where the disk refuses; what is complete stays.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_space(folder, sum(i.file_size for i in wanted.values()))
    for name, info in sorted(wanted.items(), key=lambda item: item[1].header_offset):
        if before:
            before(info)
        with _written(folder / name) as out:
            found = _copy(archive, info, out, f"{label}: member {info.filename!r}")
            expected = (sha1 or {}).get(name, found)
            if found != expected:
                text = f"{label}: member {info.filename!r}: SHA-1 is {found}, expected {expected}"
                raise FeatureStoreError(text, "It was not kept. Run the command again.")
        yield info.file_size


def missing(wanted: Mapping[str, zipfile.ZipInfo], folder: Path) -> dict[str, zipfile.ZipInfo]:
    """Those of the members that `folder` does not hold in full."""
    return {name: info for name, info in wanted.items() if not has(folder / name, info.file_size)}


def has(path: Path, size: int) -> bool:
    """Whether the file is there with this size; files are put in place only when complete and checked."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def read_checksums(archive: zipfile.ZipFile, info: zipfile.ZipInfo, root: str, label: str) -> dict[str, str]:
    """FMA's `checksums` member: {path within root: SHA-1}, from lines as sha1sum prints them."""
    out = io.BytesIO()
    _copy(archive, info, out, f"{label}: member {info.filename!r}")
    lines = (line.split(maxsplit=1) for line in out.getvalue().decode("utf-8", "replace").splitlines())
    return {pair[1].removeprefix(f"{root}/"): pair[0] for pair in lines if len(pair) == 2 and len(pair[0]) == 40}


def _copy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, out: BinaryIO, label: str) -> str:
    """Decompress a member into `out`; its SHA-1."""
    digest, size = hashlib.sha1(usedforsecurity=False), 0
    for block in _decompressed(archive, info, label):
        digest.update(block)
        size += len(block)
        out.write(block)
    if size != info.file_size:
        raise FeatureStoreError(f"{label} has {size} bytes, its directory says {info.file_size}", _AGAIN)
    return digest.hexdigest()


def _decompressed(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> Iterator[bytes]:
    try:
        with archive.open(info) as source:
            while block := source.read(BLOCK):
                yield block
    except _DAMAGE as error:
        raise FeatureStoreError(f"{label} is damaged ({error})", _AGAIN) from None
    except OSError as error:
        if error.errno is not None:
            raise
        # bz2 reports bad data as an OSError without a number
        raise FeatureStoreError(f"{label} is damaged ({error})", _AGAIN) from None


@contextlib.contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends well, and leaves nothing otherwise."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
