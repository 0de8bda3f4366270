"""What every column means: descriptions from the schemas and the feature registry, as rows and as SQL comments."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pyarrow as pa

from featurestore import registry, schemas
from featurestore.spec import Spec
from featurestore.store.store import OWN_SET
from warehouse.database.sql import described_columns, identifier, literal, read_sql, summary
from warehouse.database.views import MACROS, VIEWS, Contents, catalog_schema, stored_schemas


def _f(name: str, kind: pa.DataType, text: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": text})


FEATURE_COLUMNS = pa.schema(
    [
        _f("feature_set", pa.string(), "librosa, or the name of an imported set"),
        _f("column_name", pa.string(), "column of the set's view"),
        _f("feature", pa.string(), "feature that the column belongs to"),
        _f("statistic", pa.string(), "statistic over the frames of an excerpt; NULL where the name does not tell"),
        _f("dimension", pa.int32(), "dimension of the feature, from 1; NULL where the name does not tell"),
        _f("feature_group", pa.string(), "group that features are chosen by; NULL where unknown"),
        _f("unit", pa.string(), "unit of the values; empty where unknown"),
        _f("description", pa.string(), "what the values mean"),
    ]
)


def feature_columns(found: Contents) -> pa.Table:
    """Describe every feature column of every set.

    Parameters
    ----------
    found : Contents
        What the store holds.

    Returns
    -------
    pyarrow.Table
        FEATURE_COLUMNS: one row per set and column.

    Raises
    ------
    StoreDamaged
        If an imported set cannot be read.
    """
    own = [
        (OWN_SET, c.name, c.feature, c.statistic, c.dimension, c.group, c.unit, c.description)
        for c in registry.columns(found.store.spec.groups)
    ]
    imported = [row for name in found.feature_sets for row in _imported_rows(found, name)]
    return pa.table(list(zip(*own, *imported, strict=True)), schema=FEATURE_COLUMNS)


def _imported_rows(found: Contents, name: str) -> Iterator[tuple[object, ...]]:
    for field in catalog_schema(found.store, f"features_{name}"):
        if field.name == "track_id":
            continue
        feature, statistic, dimension = registry.parse_column(field.name) or (field.name, None, None)
        known = registry.BY_NAME.get(feature)
        text = schemas.describe(field) or (known.description if known else "")
        group, unit = (known.group, registry.unit_of(known, statistic)) if known else (None, "")
        yield name, field.name, feature, statistic, dimension, group, unit, text


_ABOUT = {
    "spec": "Every number that changes a value in this store, as name and JSON value.",
    "feature_columns": "What the columns of the feature sets mean: one row per set and column.",
}


def spec_rows(spec: Spec) -> pa.Table:
    """The spec as rows.

    Parameters
    ----------
    spec : Spec

    Returns
    -------
    pyarrow.Table
        name string, value string (JSON); the last row is the fingerprint.
    """
    values = {**spec.as_dict(), "fingerprint": spec.fingerprint}
    return pa.table({"name": list(values), "value": [json.dumps(v) for v in values.values()]})


def statements(found: Contents, kinds: Mapping[str, str]) -> Iterator[str]:
    """The `COMMENT ON` statements for relations, their columns, and the macros.

    Parameters
    ----------
    found : Contents
        What the store holds.
    kinds : mapping of str to str
        {name of a relation: TABLE or VIEW}.

    Yields
    ------
    str
        One statement, without a semicolon.

    Raises
    ------
    StoreDamaged
        If an imported set cannot be read.
    """
    described = stored_schemas(found.store) | {"feature_columns": FEATURE_COLUMNS}
    for name, kind in kinds.items():
        yield f"COMMENT ON {kind} {identifier(name)} IS {literal(_ABOUT.get(name) or _about(name))}"
        columns = {field.name: schemas.describe(field) for field in described.get(name, ())}
        for column, text in (columns | _more_columns(found, name)).items():
            yield f"COMMENT ON COLUMN {identifier(name)}.{identifier(column)} IS {literal(text)}"
    for name in MACROS:
        kind = "MACRO TABLE" if " AS TABLE" in read_sql(f"macros/{name}") else "MACRO"
        yield f"COMMENT ON {kind} {name} IS {literal(summary(f'macros/{name}'))}"


def _about(name: str) -> str:
    return (
        summary(f"views/{name}")
        if name in VIEWS
        else f"Imported feature set {name.removeprefix('features_')}: one row per track."
    )


def _more_columns(found: Contents, name: str) -> dict[str, str]:
    """Descriptions of columns that no schema of ours describes."""
    if name in VIEWS:
        return described_columns(name)
    if name == "spec":
        return {"name": "field of the spec", "value": "its value, as JSON"}
    rows = _imported_rows(found, name.removeprefix("features_")) if name not in _ABOUT else ()
    return {str(row[1]): f"{row[-1]} [{row[-2]}]" if row[-2] else str(row[-1]) for row in rows}
