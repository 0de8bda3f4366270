"""Files on any fsspec filesystem: atomic writes, listings, Parquet with the layout each table wants."""

from __future__ import annotations

import os
import posixpath
import uuid
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import FeatureStoreError, UsageError

# rows per row group: one clip's mel is fetched without its neighbours; features are scanned column by column
ROW_GROUP_ROWS = {"mel": 4, "wave": 4}
DEFAULT_ROW_GROUP_ROWS = 16384


def resolve(url: str) -> tuple[Any, str]:
    """(filesystem, root path) of an fsspec URL or a local path. Raises UsageError for an unknown protocol."""
    try:
        fs, root = fsspec.core.url_to_fs(os.path.expanduser(url))
    except ImportError as error:
        raise UsageError(
            f"{url}: {error}", "Install the extra for it: pip install 'music-feature-store[s3]' or '[gs]'."
        ) from None
    except ValueError as error:
        raise UsageError(f"{url}: {error}", "Use a path, or a URL such as s3://bucket/store.") from None
    return fs, root.rstrip("/") or "/"


def is_local(fs: Any) -> bool:
    """Whether the filesystem is this machine's own disk."""
    return isinstance(fs, fsspec.get_filesystem_class("file"))


def stems(fs: Any, folder: str, suffix: str) -> list[str]:
    """Names in `folder` that end with `suffix`, without it; [] where the folder does not exist."""
    fs.invalidate_cache(folder)
    try:
        names = fs.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    bases = (posixpath.basename(n.replace(os.sep, "/")) for n in names)
    return [b.removesuffix(suffix) for b in bases if b.endswith(suffix) and not b.startswith(".")]


def write_bytes(fs: Any, path: str, data: bytes | memoryview | pa.Buffer) -> None:
    """Put `data` at `path` so that no reader ever sees part of it, also after a power cut.

    A local file is written under a temporary name, synced and renamed. Object stores put whole objects. Raises
    FeatureStoreError where the place cannot be written; what was there before stays.
    """
    try:
        if not is_local(fs):
            fs.pipe_file(path, bytes(data))
            return
        _write_local(path, data)
    except OSError as error:
        raise FeatureStoreError(
            f"{path}: cannot be written ({error.strerror or error})",
            "Check free space and permissions; nothing already stored was changed. Then run the command again.",
        ) from None


def _write_local(path: str, data: bytes | memoryview | pa.Buffer) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_parquet(fs: Any, path: str, table: pa.Table, name: str) -> None:
    """Write `table` atomically with the layout for the table `name`. Same rows, same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP_ROWS.get(name, DEFAULT_ROW_GROUP_ROWS),
        compression="zstd",
        compression_level=1,
        use_dictionary=[f.name for f in table.schema if pa.types.is_string(f.type)],
        write_page_checksum=True,
    )
    write_bytes(fs, path, sink.getvalue())
