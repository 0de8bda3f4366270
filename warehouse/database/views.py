"""The store's tables as SQL text: which files, without the rows that newer batches supersede.

The views in `views/*.sql` are plain SQL over these relations (schema `stored`). Paths are written with a prefix:
`store://` inside a connection, a relative path in a database file.
"""

from __future__ import annotations

import dataclasses
import re

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import schemas
from featurestore.errors import REPAIR, StoreDamaged
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import Store

SCHEMA = "stored"
_WHOLE_SCAN = re.compile(r"SELECT \* FROM (read_parquet\([^()]*\))")


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a reader of a store finds at one moment: its snapshot, and the catalog tables present."""

    store: Store
    snapshot: Snapshot
    catalog: tuple[str, ...]

    @property
    def feature_sets(self) -> tuple[str, ...]:
        """Names of the imported feature sets."""
        return tuple(n.removeprefix("features_") for n in self.catalog if n.startswith("features_"))

    @property
    def catalog_files(self) -> list[str]:
        """Paths of the catalog tables, relative to the store."""
        return [f"catalog/{name}.parquet" for name in self.catalog]

    def files(self, table: str) -> list[str]:
        """Paths of the files that hold a measured table, relative to the store, oldest first."""
        return [f"{table}/{batch}.parquet" for batch in self.snapshot.batches]


def contents(store: Store) -> Contents:
    """Look at the store once. Raises StoreDamaged."""
    # rewritten in place and never removed: the catalog is listed first so that it is not newer than the batches
    catalog = store.catalog_names()
    snapshot = store.snapshot()
    return Contents(store, snapshot, catalog)


def catalog_sql(found: Contents, name: str, prefix: str) -> str:
    """A SELECT of a catalog table; a fixed table that is absent, or lacks a newer column, is typed all the same."""
    stored = f"SELECT * FROM {_scan([f'catalog/{name}.parquet'], prefix)}"
    if name not in schemas.CATALOG:
        return stored
    fields = {(f.name, f.type) for f in schemas.CATALOG[name]}
    if name in found.catalog and fields <= {(f.name, f.type) for f in catalog_schema(found, name)}:
        return stored
    empty = empty_sql(schemas.CATALOG[name])
    return f"{empty} UNION ALL BY NAME {stored}" if name in found.catalog else empty


def catalog_schema(found: Contents, name: str) -> pa.Schema:
    """Arrow schema of a catalog table as it is stored. Raises StoreDamaged."""
    path = found.store.catalog_path(name)
    try:
        with found.store.fs.open(path, "rb") as f:
            return pq.read_schema(f)
    except (OSError, pa.ArrowException) as error:
        raise StoreDamaged(f"{path}: {error}", REPAIR) from None


def measured_sql(found: Contents, table: str, prefix: str, extra: str = "") -> str:
    """A SELECT of a measured table's current rows; `extra` names virtual columns to add (`filename`)."""
    if not found.snapshot.batches:
        schema = schemas.measured_schema(table, found.store.spec)
        return empty_sql(schema, [f"NULL::VARCHAR AS {extra}"] if extra else [])
    star = f"*, {extra}" if extra else "*"
    old = set(found.snapshot.superseded["batch"].unique().to_pylist())
    clean = [f for f, b in zip(found.files(table), found.snapshot.batches, strict=True) if b not in old]
    mixed = [f for f, b in zip(found.files(table), found.snapshot.batches, strict=True) if b in old]
    parts = [f"SELECT {star} FROM {_scan(clean, prefix)}"] if clean else []
    if mixed:
        parts.append(
            f"SELECT {star} FROM {_scan(mixed, prefix)} AS t WHERE NOT EXISTS (FROM {SCHEMA}.superseded AS s"
            " WHERE s.track_id = t.track_id AND s.batch = parse_filename(t.filename, true))"
        )
    return " UNION ALL ".join(parts)


def as_table(sql: str) -> str | None:
    """What stands after FROM in place of `sql`, if that is all of one scan; else None.

    A view of 518 columns binds each of them at every query, and once more for each SELECT in between.
    """
    scan = _WHOLE_SCAN.fullmatch(sql)
    return scan[1] if scan else None


def _scan(names: list[str], prefix: str) -> str:
    paths = ", ".join(literal(prefix + n) for n in names)
    return f"read_parquet([{paths}], hive_partitioning = false)"


def empty_sql(schema: pa.Schema, extra: list[str] | None = None) -> str:
    """A SELECT with the columns of `schema` and no rows."""
    columns = [f"NULL::{sql_type(f.type)} AS {identifier(f.name)}" for f in schema]
    return f"SELECT {', '.join(columns + (extra or []))} WHERE false"


def sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type that the store uses. Raises KeyError for any other."""
    if pa.types.is_list(kind):
        return sql_type(kind.value_type) + "[]"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ" if kind.tz else {"s": "TIMESTAMP_S", "ms": "TIMESTAMP", "us": "TIMESTAMP"}[kind.unit]
    return {
        pa.int64(): "BIGINT",
        pa.int32(): "INTEGER",
        pa.int16(): "SMALLINT",
        pa.float64(): "DOUBLE",
        pa.float32(): "FLOAT",
        pa.bool_(): "BOOLEAN",
        pa.string(): "VARCHAR",
        pa.binary(): "BLOB",
    }[kind]


def literal(text: str) -> str:
    """`text` as a SQL string."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
