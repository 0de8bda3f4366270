"""Parquet files of the store: one writer, with the layout that each table wants, and the checks of what was written.

Every page has a checksum, which readers verify. The footer holds, beside notes of the caller, the SHA-256 of all bytes
before the footer and of the columns' names and types (`content`). Files are the same, byte by byte, where their rows
are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.store import files

# rows per row group: one clip's mel is fetched without its neighbours; features are scanned column by column
ROW_GROUP_ROWS = {"mel": 4, "wave": 4}
DEFAULT_ROW_GROUP_ROWS = 16384
CONTENT = b"content"
_CHUNK = 1 << 20


class Writer:
    """A Parquet file that is being written part by part; `stream` makes it.

    Parameters
    ----------
    writer : pq.ParquetWriter
        The open file.
    row_group_rows : int
        Rows of a row group at most.

    Attributes
    ----------
    digest : str
        SHA-256 of the file's bytes, hexadecimal, once the file is complete; "" before.
    """

    def __init__(self, writer: pq.ParquetWriter, row_group_rows: int) -> None:
        self._writer, self._row_group_rows = writer, row_group_rows
        self.digest = ""

    def write_table(self, part: pa.Table) -> None:
        """Append rows.

        Parameters
        ----------
        part : pa.Table
            Of the file's schema. Its last row group ends with it.
        """
        self._writer.write_table(part, row_group_size=self._row_group_rows)


@contextlib.contextmanager
def stream(
    fs: Any, path: str, schema: pa.Schema, name: str, notes: Mapping[str, str] | None = None
) -> Iterator[Writer]:
    """Write a table part by part: one part at a time is in memory.

    Parameters
    ----------
    fs, path
        Where the file is to stand, as `files.resolve` gives it.
    schema : pa.Schema
        Schema of every part.
    name : str
        The table's name, which chooses the layout.
    notes : mapping of str to str, optional
        Kept in the file's footer.

    Yields
    ------
    Writer
        The file appears at `path` when the block ends; if the block raises, nothing changes.

    Raises
    ------
    FeatureStoreError
        If the place cannot be written.
    """
    with files.replacing(fs, path) as temporary:
        with open(temporary, "wb") as f, pq.ParquetWriter(f, schema, **_layout(schema, name)) as writer:
            out = Writer(writer, ROW_GROUP_ROWS.get(name, DEFAULT_ROW_GROUP_ROWS))
            yield out
            f.flush()
            writer.add_key_value_metadata({**(notes or {}), CONTENT.decode(): _content(temporary, schema)})
        out.digest = files.digest(temporary)


def write(fs: Any, path: str, table: pa.Table, name: str, notes: Mapping[str, str] | None = None) -> str:
    """Write a whole table as `stream` does.

    Parameters
    ----------
    fs, path
        Where the file is to stand, as `files.resolve` gives it.
    table : pa.Table
        The rows.
    name : str
        The table's name, which chooses the layout.
    notes : mapping of str to str, optional
        Kept in the file's footer.

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.

    Raises
    ------
    FeatureStoreError
        If the place cannot be written.
    """
    with stream(fs, path, table.schema, name, notes) as out:
        out.write_table(table)
    return out.digest


def _layout(schema: pa.Schema, name: str) -> dict[str, Any]:
    own = name.startswith("features_")  # an imported set's descriptions are nowhere else
    common = {"store_schema": own, "write_page_checksum": True}
    if name == "features" or own:
        # measured on 666 float32 columns: zstd, also with byte-stream-split, saves 5 % and takes 3 times as long to
        # write and twice as long to read
        return {**common, "compression": "none", "use_dictionary": False, "write_statistics": ["track_id"]}
    return {
        **common,
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [f.name for f in schema if pa.types.is_string(f.type)],
        # where no digest covers the footer, nothing stands in it that readers trust unseen
        "write_statistics": name in ("mel", "wave", "failures"),
    }


def read(fs: Any, path: str, columns: Sequence[str] | None = None, *, threads: bool = False) -> pa.Table:
    """Read a table, its page checksums verified.

    Parameters
    ----------
    fs, path
        The file, as `files.resolve` gives it.
    columns : sequence of str, optional
        The columns to read; all, unless given.
    threads : bool
        Whether columns are decoded side by side.

    Returns
    -------
    pa.Table
        The notes of the footer are in its schema's metadata.

    Raises
    ------
    OSError, pa.ArrowException
        If the file is not there, no regular file, or damaged.
    """
    wanted = None if columns is None else list(columns)
    files.require_regular(fs, path)
    if files.is_local(fs):
        return pq.ParquetFile(path, page_checksum_verification=True).read(wanted, use_threads=threads)
    with fs.open(path, "rb") as f:
        return pq.ParquetFile(f, page_checksum_verification=True).read(wanted, use_threads=threads)


def notes(fs: Any, path: str) -> dict[bytes, bytes]:
    """The notes in a file's footer.

    Parameters
    ----------
    fs, path
        The file, as `files.resolve` gives it.

    Returns
    -------
    dict of bytes to bytes

    Raises
    ------
    OSError, pa.ArrowException
        As `read` does.
    """
    with files.open_file(fs, path) as f:
        return pq.read_metadata(f).metadata or {}


def check_content(path: str) -> None:
    """Make sure that a file holds what was written.

    Parameters
    ----------
    path : str
        A local Parquet file of a store.

    Raises
    ------
    ValueError
        If its rows and columns are not those that its footer names.
    """
    file = pq.ParquetFile(path)
    named = (file.metadata.metadata or {}).get(CONTENT, b"").decode("ascii", "replace")
    with open(path, "rb") as f:
        size = f.seek(-8, os.SEEK_END) - int.from_bytes(f.read(4), "little")
    require_digest(named, _content(path, file.schema_arrow, size))


def _content(path: str, schema: pa.Schema, size: int | None = None) -> str:
    """SHA-256 of the first `size` bytes of a file (all, unless given), and of the schema."""
    found = hashlib.sha256()
    with open(path, "rb") as f:
        left = os.fstat(f.fileno()).st_size if size is None else size
        while left > 0 and (chunk := f.read(min(left, _CHUNK))):
            found.update(chunk)
            left -= len(chunk)
    found.update("\n".join(_fields(schema)).encode())
    return found.hexdigest()


def require_digest(written: str, found: str) -> None:
    """Make sure that two digests are the same.

    Parameters
    ----------
    written, found : str
        Hexadecimal; `written` is "" where none was noted.

    Raises
    ------
    ValueError
        If they differ; the message has the beginning of both.
    """
    if written != found:
        raise ValueError(f"checksum: written as {written[:12] or 'none'}…, its bytes give {found[:12]}…")


def require_schema(found: pa.Schema, expected: pa.Schema) -> None:
    """Make sure that a file has the columns it should have.

    Parameters
    ----------
    found, expected : pa.Schema
        Names, types, order and whether NULL is allowed are compared; descriptions are not.

    Raises
    ------
    ValueError
        If they differ; the message names fields.
    """
    differ = set(_fields(found)) ^ set(_fields(expected))
    if differ or found.names != expected.names:
        odd = ", ".join(sorted(differ)[:4]) or "the order of the columns"
        raise ValueError(f"schema: {len(differ)} fields differ: {odd}")


def _fields(schema: pa.Schema) -> list[str]:
    return [f"{f.name} {f.type}{'' if f.nullable else ' not null'}" for f in schema]
