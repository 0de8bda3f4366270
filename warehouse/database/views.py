"""What of a store a connection shows: the names of its views and macros, and the SQL that reads the Parquet files.

Files are named with a prefix: `store://` inside a connection, a path in a database file for other tools. Rows that a
newer batch supersedes are left out. Names that people use are in the schema `main`, what the warehouse itself needs is
in the schema `stored`.
"""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import schemas
from featurestore.errors import REPAIR, StoreDamaged
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import Store
from warehouse.database.sql import literal

SCHEMA = "stored"
# in the order in which they build on each other
VIEWS = (
    "genres",
    "excerpts",
    "failures",
    "tracks",
    "splits",
    "datasets",
    "features",
    "features_long",
    "vectors",
    "mel",
    "wave",
    "track_genres",
    "provenance",
)
SMALL = frozenset({"genres", "excerpts", "failures", "tracks", "splits", "datasets"})  # always copied into tables
LARGE = frozenset({"features", "vectors"})  # copied where the database is kept; `features` stands for imported sets too
MACROS = ("genre_path", "feature_profile", "similar_tracks", "duplicates", "feature_drift")


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a reader of a store finds at one moment: its snapshot, and the names of the catalog tables present."""

    store: Store
    snapshot: Snapshot
    catalog: tuple[str, ...]

    @property
    def feature_sets(self) -> tuple[str, ...]:
        """Names of the imported feature sets."""
        return tuple(n.removeprefix("features_") for n in self.catalog if n.startswith("features_"))

    def files(self, table: str) -> list[str]:
        """Paths of the files that hold a measured table.

        Parameters
        ----------
        table : str
            One of `schemas.MEASURED`.

        Returns
        -------
        list of str
            Relative to the store, oldest batch first.
        """
        return [f"{table}/{batch}.parquet" for batch in self.snapshot.batches]


def contents(store: Store) -> Contents:
    """Look at the store once.

    Parameters
    ----------
    store : Store

    Returns
    -------
    Contents

    Raises
    ------
    StoreDamaged
        If a file of the snapshot cannot be read.
    """
    # rewritten in place and never removed: the catalog is listed first so that it is not newer than the batches
    catalog = store.catalog_names()
    return Contents(store, store.snapshot(), catalog)


def stored_schemas(store: Store) -> dict[str, pa.Schema]:
    """Arrow schemas of the stored tables, as DuckDB reads them.

    Parameters
    ----------
    store : Store

    Returns
    -------
    dict
        {table: pyarrow.Schema} of the measured tables and the fixed tables of the catalog, without imported sets.
    """
    found = {t: schemas.measured_schema(t, store.spec) for t in schemas.MEASURED} | schemas.CATALOG
    return {name: pa.schema([f.with_type(_as_read(f.type)) for f in schema]) for name, schema in found.items()}


def _as_read(kind: pa.DataType) -> pa.DataType:
    # DuckDB reads times of milliseconds in Parquet as microseconds
    return pa.timestamp("us") if kind == pa.timestamp("ms") else kind


def source_sql(found: Contents, name: str, prefix: str) -> str:
    """A SELECT of the stored table that a view is named after.

    Parameters
    ----------
    found : Contents
        What the store holds.
    name : str
        One of VIEWS.
    prefix : str
        What stands in front of a file's path relative to the store.

    Returns
    -------
    str
        Empty for a view that is made of other views.
    """
    if name in schemas.MEASURED:
        return measured_sql(found, name, prefix)
    return catalog_sql(found, name, prefix) if name in schemas.CATALOG else ""


def catalog_sql(found: Contents, name: str, prefix: str) -> str:
    """A SELECT of a catalog table; a fixed table that is absent, or lacks a newer column, is typed all the same.

    Parameters
    ----------
    found : Contents
        What the store holds.
    name : str
        Name of the table, `features_<set>` for an imported set.
    prefix : str
        What stands in front of a file's path relative to the store.

    Returns
    -------
    str
    """
    stored = f"SELECT * FROM {_scan([f'catalog/{name}.parquet'], prefix)}"
    if name not in schemas.CATALOG:
        return stored
    empty = f"FROM {SCHEMA}.empty_{name}"
    return f"{empty} UNION ALL BY NAME {stored}" if name in found.catalog else empty


def catalog_schema(store: Store, name: str) -> pa.Schema:
    """Arrow schema of a catalog table as it is stored.

    Parameters
    ----------
    store : Store
    name : str
        Name of the table, `features_<set>` for an imported set.

    Returns
    -------
    pyarrow.Schema

    Raises
    ------
    StoreDamaged
        If the file cannot be read.
    """
    path = store.catalog_path(name)
    try:
        with store.fs.open(path, "rb") as f:
            return pq.read_schema(f)
    except (OSError, pa.ArrowException) as error:
        raise StoreDamaged(f"{path}: {error}", REPAIR) from None


def measured_sql(found: Contents, table: str, prefix: str, extra: str = "") -> str:
    """A SELECT of a measured table's current rows.

    Parameters
    ----------
    found : Contents
        What the store holds.
    table : str
        One of `schemas.MEASURED`.
    prefix : str
        What stands in front of a file's path relative to the store.
    extra : str
        A virtual column to add, such as `filename`; empty for none.

    Returns
    -------
    str
    """
    if not found.snapshot.batches:
        return f"SELECT *{f', NULL::VARCHAR AS {extra}' if extra else ''} FROM {SCHEMA}.empty_{table}"
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


def _scan(names: list[str], prefix: str) -> str:
    paths = ", ".join(literal(prefix + n) for n in names)
    return f"read_parquet([{paths}], hive_partitioning = false)"
