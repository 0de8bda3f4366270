"""The vectors behind `similar_tracks`: one standardised feature vector per excerpt, in one column.

Reading 518 separate columns for every question would take seconds on a large store. The file is made when a
connection first asks for it, by the SQL in `vectors.sql`, in a temporary file that ends with the connection: it cannot
be stale, and the store is not written to. An index (`warehouse.index`) keeps the vectors beside the store's files.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from importlib import resources

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import registry
from warehouse.database.views import SCHEMA, Contents, identifier

FILE = "made/vectors.parquet"
MACRO = f"MACRO {SCHEMA}.vectors(file)"
_ROWS = 4096


def make(found: Contents, connection: duckdb.DuckDBPyConnection) -> int:
    """Write the Parquet file of vectors to a temporary file without a name; returns its descriptor.

    `connection` has the relation `stored.features()`; it is closed.
    """
    d = len(_names(found))
    schema = pa.schema({"track_id": pa.int64(), "excerpt": pa.int16(), "vector": pa.list_(pa.float32(), d)})
    with tempfile.TemporaryFile() as f, contextlib.closing(connection):
        # plain values: compressing noise costs more than reading it
        with pq.ParquetWriter(f, schema, compression="none", use_dictionary=False) as writer:
            for batch in connection.sql(_columns_sql(found)).to_arrow_reader(_ROWS):
                # columns side by side become rows here: DuckDB's array_value takes four times as long
                flat = np.stack([c.to_numpy() for c in batch.columns[2:]], axis=1).ravel()
                vector = pa.FixedSizeListArray.from_arrays(pa.array(flat), d)
                writer.write_batch(pa.record_batch([*batch.columns[:2], vector], schema=schema))
        f.flush()
        return os.dup(f.fileno())


def select_sql(found: Contents) -> str:
    """SQL that gives (track_id, excerpt, vector FLOAT[d]) from the relation `stored.features()`."""
    vector = "array_value(*COLUMNS(* EXCLUDE (track_id, excerpt))) AS vector"
    return f"SELECT track_id, excerpt, {vector} FROM ({_columns_sql(found)})"


def _columns_sql(found: Contents) -> str:
    template = resources.files("warehouse").joinpath("sql", "vectors.sql").read_text("utf-8")
    scaled = (f"coalesce((f.{n} - m.{n}) / nullif(s.{n}, 0), 0)::FLOAT AS {n}" for n in map(identifier, _names(found)))
    return template.replace("{scaled}", ", ".join(scaled))


def _names(found: Contents) -> tuple[str, ...]:
    return registry.column_names(found.store.spec.groups)


def macro_sql(found: Contents, relation: str) -> str:
    """SQL of the macro `stored.vectors(file)`, which gives the vectors that lie in `relation` (which may use `file`).

    A file named by a parameter is opened when the macro is used, not when it is made.
    """
    d = len(_names(found))
    # Parquet knows lists, not arrays
    columns = f"track_id, excerpt, vector::FLOAT[{d}] AS vector"
    return f"CREATE {MACRO} AS TABLE SELECT {columns} FROM {relation}"
