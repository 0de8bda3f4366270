"""Files on any fsspec filesystem: paths, listings, and writes that no reader ever sees a part of.

Only regular files are listed and opened: a pipe or a device would block whoever reads it. A local file is written
under a temporary name in its folder, synced, renamed, and its folder synced: after a power cut it is there whole, or
what was there before is. Object stores put whole objects.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import os
import posixpath
import stat
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

import fsspec

from featurestore.errors import FeatureStoreError, UsageError, of_system

TEMPORARY = ".featurestore-tmp"  # how the temporary names of this project end; nothing else of that kind is removed


def resolve(url: str) -> tuple[Any, str]:
    """The filesystem and the path of a place.

    Parameters
    ----------
    url : str
        An fsspec URL (`s3://bucket/store`) or a local path; `~` is the home folder.

    Returns
    -------
    tuple of (fsspec filesystem, str)
        The path is spelt as the filesystem wants it, without a slash at its end.

    Raises
    ------
    UsageError
        If the protocol is unknown, or needs a package that is not installed.

    Examples
    --------
    >>> resolve("memory://bucket/store")[1]
    '/bucket/store'
    """
    try:
        # a listing kept by the client would hide what other processes commit, and what they remove
        fs, root = fsspec.core.url_to_fs(os.path.expanduser(url), use_listings_cache=False)
    except ImportError as error:
        raise UsageError(
            f"{url}: {error}", "Install the extra for it: pip install 'music-feature-store[s3]' or '[gs]'."
        ) from None
    except ValueError as error:
        raise UsageError(f"{url}: {error}", "Use a path, or a URL such as s3://bucket/store.") from None
    return fs, root.rstrip("/") or "/"


def is_local(fs: Any) -> bool:
    """Whether a filesystem is this machine's own disk.

    Parameters
    ----------
    fs : fsspec filesystem
        As `resolve` gives it.
    """
    return isinstance(fs, fsspec.get_filesystem_class("file"))


# ---------------------------------------------------------------- listings


def sizes(fs: Any, folder: str) -> dict[str, int]:
    """The regular files in a folder, hidden ones too, and how large they are.

    Parameters
    ----------
    fs, folder
        The folder, as `resolve` gives it.

    Returns
    -------
    dict of str to int
        Bytes by base name; {} where the folder does not exist.
    """
    if not is_local(fs):
        try:
            entries = fs.ls(folder, detail=True)
        except FileNotFoundError:
            return {}
        return {posixpath.basename(i["name"]): int(i["size"]) for i in entries if i["type"] == "file"}
    found = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):  # removed since
                if entry.is_file():
                    found[entry.name] = entry.stat().st_size
    return found


def names(fs: Any, folder: str) -> list[str]:
    """Base names of the regular files in a folder, hidden ones too; [] where the folder does not exist.

    Parameters
    ----------
    fs, folder
        The folder, as `resolve` gives it.
    """
    return list(sizes(fs, folder))


def stems(fs: Any, folder: str, suffix: str) -> list[str]:
    """Names of the files in a folder that end with a suffix, without hidden ones.

    Parameters
    ----------
    fs, folder
        The folder, as `resolve` gives it.
    suffix : str
        Such as ".parquet".

    Returns
    -------
    list of str
        Base names without the suffix.
    """
    return [n.removesuffix(suffix) for n in names(fs, folder) if n.endswith(suffix) and not n.startswith(".")]


def modified(fs: Any, path: str) -> dt.datetime:
    """When a file was written, with its time zone.

    Parameters
    ----------
    fs, path
        The file, as `resolve` gives it.
    """
    when: dt.datetime = fs.modified(path)
    return when if when.tzinfo else when.replace(tzinfo=dt.UTC)


# ---------------------------------------------------------------- reading


def require_regular(fs: Any, path: str) -> None:
    """Refuse what a reader could wait for without end.

    Parameters
    ----------
    fs, path
        The file, as `resolve` gives it.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    OSError
        If it is a pipe, a device or a folder.
    """
    if is_local(fs) and not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)


def open_file(fs: Any, path: str) -> BinaryIO:
    """Open a regular file for reading.

    Parameters
    ----------
    fs, path
        The file, as `resolve` gives it.

    Raises
    ------
    OSError
        As `require_regular` does, and where the file cannot be opened.
    """
    require_regular(fs, path)
    file: BinaryIO = fs.open(path, "rb")
    return file


def read_bytes(fs: Any, path: str) -> bytes:
    """The content of a regular file.

    Parameters
    ----------
    fs, path
        The file, as `resolve` gives it.

    Raises
    ------
    OSError
        As `open_file` does.
    """
    with open_file(fs, path) as f:
        return f.read()


@contextlib.contextmanager
def local_copy(fs: Any, path: str) -> Iterator[str]:
    """Have a file's content on this machine while the block runs.

    Parameters
    ----------
    fs, path
        The file, as `resolve` gives it.

    Yields
    ------
    str
        Path of the file itself, or of a temporary copy of a remote one.

    Raises
    ------
    OSError
        As `require_regular` does, and where a remote file cannot be read.
    """
    require_regular(fs, path)
    if is_local(fs):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="featurestore-", suffix=posixpath.splitext(path)[1]) as copy:
        fs.get_file(path, copy.name)
        yield copy.name


def digest(path: str) -> str:
    """SHA-256 of a local file's bytes.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


# ---------------------------------------------------------------- writing and removing


def temporary_path(path: str) -> str:
    """A new hidden name in the folder of a path, which `is_temporary` recognises should its writer die.

    Parameters
    ----------
    path : str
        Where the file is to stand in the end.
    """
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")


def is_temporary(name: str) -> bool:
    """Whether a name is one of `temporary_path`, or of a file that a library put beside such a one.

    Parameters
    ----------
    name : str
        Base name of a file.

    Examples
    --------
    >>> is_temporary(".000001-00000.parquet.1f2e3d4c.featurestore-tmp"), is_temporary("000001-00000.parquet")
    (True, False)
    """
    return name.startswith(".") and TEMPORARY in name


@contextlib.contextmanager
def replacing(fs: Any, path: str) -> Iterator[str]:
    """Replace the file at `path`: the block writes a local temporary file, which is published when it ends.

    Parameters
    ----------
    fs, path
        Where the file is to stand, as `resolve` gives it. Missing folders are made.

    Yields
    ------
    str
        Path of the temporary file, for the block to write.

    Raises
    ------
    FeatureStoreError
        If the place cannot be written. Whatever is raised, what stood at `path` before is still there.
    """
    folder = os.path.dirname(path) if is_local(fs) else tempfile.gettempdir()
    temporary = temporary_path(os.path.join(folder, posixpath.basename(path)))
    try:
        _make_folder(folder)
        yield temporary
        publish(fs, temporary, path)
    except Exception as error:
        if of_system(error) is None:
            raise
        raise FeatureStoreError(
            f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})",
            "Check free space and permissions; nothing already stored was changed. Then run the command again.",
        ) from None
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(temporary)


def write_bytes(fs: Any, path: str, data: Any) -> None:
    """Replace the file at a path by these bytes, see `replacing`.

    Parameters
    ----------
    fs, path
        Where the file is to stand, as `resolve` gives it.
    data : bytes, buffer, or list of them
        The content.

    Raises
    ------
    FeatureStoreError
        If the place cannot be written.
    """
    with replacing(fs, path) as temporary, open(temporary, "wb") as f:
        f.writelines(data if isinstance(data, list) else [data])


def publish(fs: Any, temporary: str, path: str) -> None:
    """Put a complete local file at its place, whole, also after a power cut.

    Parameters
    ----------
    fs, path
        The place, as `resolve` gives it.
    temporary : str
        The local file; on a disk in the folder of `path`, from where it is renamed.

    Raises
    ------
    OSError
        If it cannot be put there.
    """
    if not is_local(fs):
        fs.put_file(temporary, path)
        return
    _sync(temporary)
    os.replace(temporary, path)
    _sync(os.path.dirname(path) or ".")


def _make_folder(path: str) -> None:
    """Make a folder and those above it, so that each is there after a power cut too."""
    if path and not os.path.isdir(path):
        _make_folder(os.path.dirname(path))
        os.makedirs(path, exist_ok=True)
        _sync(os.path.dirname(path) or ".")


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(fs: Any, path: str) -> None:
    """Delete a file (of a link: the link); one that is not there is fine.

    Parameters
    ----------
    fs, path
        The file, as `resolve` gives it.

    Raises
    ------
    FeatureStoreError
        If that is not allowed.
    """
    try:
        fs.rm_file(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FeatureStoreError(
            f"{path}: cannot be removed ({error.strerror or error})", "Check the permissions, then run again."
        ) from None
