"""Make a database of a snapshot: the tables, views and macros that a connection shows, with their comments."""

from __future__ import annotations

from collections.abc import Collection

import duckdb
import pyarrow as pa

from featurestore import registry
from featurestore.datasets.artists import artist_groups
from featurestore.store.store import Store
from warehouse.database import comments
from warehouse.database.sql import identifier, read_sql
from warehouse.database.views import (
    MACROS,
    SCHEMA,
    SMALL,
    VIEWS,
    Contents,
    catalog_sql,
    measured_sql,
    source_sql,
    stored_schemas,
)


def fill(
    connection: duckdb.DuckDBPyConnection, found: Contents, prefix: str, copied: Collection[str] = ()
) -> dict[str, str]:
    """Make the tables, views and macros of a store in the connection's current database, which is empty.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        It can open the store's files under `prefix`.
    found : Contents
        What to show.
    prefix : str
        What stands in front of a file's path relative to the store.
    copied : collection of str
        Which of LARGE are copied into tables; the others are views over Parquet files.

    Returns
    -------
    dict
        {name: TABLE or VIEW} of what people use, in the schema `main`.

    Raises
    ------
    duckdb.Error
        If a file cannot be read, or the database not be written.
    """
    connection.execute(f"CREATE SCHEMA {SCHEMA}")
    for name, schema in stored_schemas(found.store).items():
        _create_table(connection, f"{SCHEMA}.empty_{name}", schema.empty_table())
    _create_table(connection, f"{SCHEMA}.superseded", found.snapshot.superseded)
    _create_table(connection, f"{SCHEMA}.artist_groups", _artist_groups(found.store))
    _create_table(connection, "spec", comments.spec_rows(found.store.spec))
    _create_table(connection, "feature_columns", comments.feature_columns(found))
    kinds = {"spec": "TABLE", "feature_columns": "TABLE"}
    for name in VIEWS:
        kinds[name] = "TABLE" if name in SMALL or name in copied else "VIEW"
        connection.execute(f"CREATE {kinds[name]} {name} AS {view_sql(found, name, prefix)}")
    for name in (f"features_{name}" for name in found.feature_sets):
        kinds[name] = kinds["features"]
        connection.execute(f"CREATE {kinds[name]} {identifier(name)} AS {catalog_sql(found, name, prefix)}")
    excerpts = measured_sql(found, "excerpts", prefix, extra="filename")
    connection.execute(f"CREATE TABLE {SCHEMA}.places AS {read_sql('places').replace('{source}', f'({excerpts})')}")
    for name in MACROS:
        connection.execute(read_sql(f"macros/{name}"))
    connection.execute(f"BEGIN; {'; '.join(comments.statements(found, kinds))}; COMMIT")
    return kinds


def view_sql(found: Contents, name: str, prefix: str) -> str:
    """The SELECT of one of VIEWS, over the store's files and the views before it.

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
    """
    sql = read_sql(f"views/{name}").replace("{source}", f"({source_sql(found, name, prefix)})")
    if name != "vectors":
        return sql
    columns = registry.column_names(found.store.spec.groups)
    scaled = (f"coalesce((f.{c} - m.{c}) / nullif(s.{c}, 0), 0)::FLOAT" for c in map(identifier, columns))
    return sql.replace("{scaled}", ", ".join(scaled)).replace("{n}", str(len(columns)))


def _create_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """Copy an Arrow table into the table `name` of the connection's current database."""
    connection.register("arrow_rows", rows)
    connection.execute(f"CREATE TABLE {name} AS FROM arrow_rows")
    connection.unregister("arrow_rows")


def _artist_groups(store: Store) -> pa.Table:
    """(track_id, artist_group) of every track of the catalog."""
    tracks = store.read_catalog("tracks", ["track_id", "artist_id", "artist"])
    return pa.table({"track_id": tracks["track_id"], "artist_group": artist_groups(tracks)})
