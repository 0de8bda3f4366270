"""Extract a zip that is not trusted: names and kinds of all members are checked before a byte is written."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from pooch.hashes import hash_matches

from featurestore.errors import FeatureStoreError
from featurestore.fetch.web import RemoteFile, check_space
from featurestore.terminal import progress

MAX_PIECE = 1 << 26  # bytes of one request; fma_full has tracks of hours
_AGAIN = "Remove the archive if you keep it on disk, and run the command again."


@contextlib.contextmanager
def damage(what: str) -> Iterator[None]:
    """Turn whatever zipfile and the decompressors raise on bad bytes into one message.

    Parameters
    ----------
    what : str
        What was being read, for the message.

    Yields
    ------
    None

    Raises
    ------
    FeatureStoreError
        The bytes are damaged. An error of the disk (OSError with an errno) passes as it is.
    """
    try:
        yield
    except Exception as error:
        # an errno is the disk's: bz2 reports bad data as an OSError without one. The last two would be bugs of ours
        known = isinstance(error, FeatureStoreError | AttributeError | TypeError)
        if known or getattr(error, "errno", None) is not None:
            raise
        raise FeatureStoreError(f"{what} is damaged ({error})", _AGAIN) from None


def opened(file: IO[bytes], label: str) -> zipfile.ZipFile:
    """Open a zip archive.

    Parameters
    ----------
    file : binary file object
        Seekable, on this machine or remote.
    label : str
        What messages call it.

    Returns
    -------
    zipfile.ZipFile

    Raises
    ------
    FeatureStoreError
        There is no zip archive in it.
    """
    with damage(f"{label}: the zip archive"):
        return zipfile.ZipFile(file)


def members(archive: zipfile.ZipFile, root: str, label: str) -> dict[str, zipfile.ZipInfo]:
    """List the files of an archive, the names and kinds of all of them checked.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The archive.
    root : str
        The folder that every member must be in.
    label : str
        What messages call the archive.

    Returns
    -------
    dict of str to zipfile.ZipInfo
        The files by their path within `root`.

    Raises
    ------
    FeatureStoreError
        A name that leads out of `root` or stands twice, a link or a device.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.orig_filename.removeprefix(f"{root}/")
        if name in found or not _is_plain(info, root):
            raise FeatureStoreError(
                f"{label}: member {info.orig_filename!r}: expected files and folders inside {root}/, each name once",
                "The file is not the one that FMA published; nothing of it was extracted.",
            )
        if not info.is_dir():
            found[name] = info
    return found


def _is_plain(info: zipfile.ZipInfo, root: str) -> bool:
    """Whether a member is a file or folder, no link or device, whose name as it stands leads nowhere but into root."""
    name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
    inside = name.startswith(f"{root}/") and posixpath.normpath(name) == name.removesuffix("/")
    return inside and name.isprintable() and not {"\\", ":"} & set(name) and kind in (0, stat.S_IFREG, stat.S_IFDIR)


def extract(archive: zipfile.ZipFile, wanted: Mapping[str, zipfile.ZipInfo], folder: Path, label: str) -> None:
    """Write members to `folder` under their paths, each complete or not at all.

    zipfile checks every CRC-32. Members of a remote file, whose hash nobody knows, are held to FMA's `checksums` too.

    Parameters
    ----------
    archive : zipfile.ZipFile
        The archive, of a local or a remote file.
    wanted : Mapping[str, zipfile.ZipInfo]
        Members by their path within `folder`, as `members` gives them.
    folder : Path
        Where the files go; made where it is not there.
    label : str
        What messages call the archive.

    Raises
    ------
    FeatureStoreError
        Damage, or no room. What is complete stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(i.file_size for i in wanted.values())
    check_space(folder, total)
    sha1 = _checksums(archive, folder.name, label) if wanted and isinstance(archive.fp, RemoteFile) else {}
    scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-")
    with scratch, progress.bar(f"unpacking {folder.name} (MB)", total / 1e6) as bar:
        for name, info in sorted(wanted.items(), key=lambda item: item[1].header_offset):
            if isinstance(archive.fp, RemoteFile):  # have it read the member into its buffer, in one request
                archive.fp.seek(info.header_offset)
                archive.fp.read(min(info.compress_size, MAX_PIECE))
            with damage(f"{label}: member {info.filename!r}"):
                path = Path(archive.extract(info, scratch.name))
                hash_matches(str(path), sha1.get(name), strict=True, source=name)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, folder / name)
            bar.advance(info.file_size / 1e6)


def _checksums(archive: zipfile.ZipFile, root: str, label: str) -> dict[str, str]:
    """{path within `root`: SHA-1}, from lines as sha1sum prints them; {} where the archive has none."""
    if f"{root}/checksums" not in archive.namelist():
        return {}
    with damage(f"{label}: member 'checksums'"):
        text = archive.read(f"{root}/checksums").decode("utf-8", "replace")
    lines = (line.split(maxsplit=1) for line in text.splitlines())
    return {pair[1].removeprefix(f"{root}/"): f"sha1:{pair[0]}" for pair in lines if len(pair) == 2}
