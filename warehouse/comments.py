"""What every column means: descriptions from the schemas and the feature registry, as rows and as SQL comments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import resources

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import registry, schemas
from featurestore.spec import Spec
from featurestore.store import OWN_SET
from warehouse.relations import Contents, identifier, literal


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
        _f("unit", pa.string(), "unit of the values"),
        _f("description", pa.string(), "what the values mean"),
    ]
)


def feature_columns(found: Contents) -> pa.Table:
    """One row per feature column of every set: its parts, group, unit and description."""
    own = [
        (OWN_SET, c.name, c.feature, c.statistic, c.dimension, c.group, c.unit, c.description)
        for c in registry.columns(found.store.spec.groups)
    ]
    imported = [row for name in found.feature_sets for row in _imported_rows(found, name)]
    columns = zip(*own, *imported, strict=True)
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, FEATURE_COLUMNS, strict=True)], schema=FEATURE_COLUMNS
    )


def _imported_rows(found: Contents, name: str) -> Iterator[tuple[object, ...]]:
    for field in imported_schema(found, name):
        if field.name == "track_id":
            continue
        feature, statistic, dimension = registry.parse_column(field.name) or (field.name, None, None)
        known = registry.BY_NAME.get(feature)
        text = schemas.describe(field) or (known.description if known else "")
        group = known.group if known else None
        yield name, field.name, feature, statistic, dimension, group, known.unit if known else "", text


def imported_schema(found: Contents, name: str) -> pa.Schema:
    """Arrow schema of an imported feature set, track_id included."""
    with found.store.fs.open(found.store.catalog_path(f"features_{name}"), "rb") as f:
        return pq.read_schema(f)


def spec_rows(spec: Spec) -> pa.Table:
    """The spec as rows (name, value as JSON)."""
    values = {**spec.as_dict(), "fingerprint": spec.fingerprint}
    return pa.table({"name": list(values), "value": [json.dumps(v) for v in values.values()]})


def statements(found: Contents, views: Iterable[str]) -> Iterator[str]:
    """`COMMENT ON` statements for the views (from the top of their files) and for their columns."""
    spec = found.store.spec
    described = {t: schemas.measured_schema(t, spec) for t in schemas.MEASURED} | schemas.CATALOG
    for view in views:
        yield f"COMMENT ON VIEW {view} IS {literal(summary('views', view))}"
        for field in described.get(view, ()):
            yield _column(view, field.name, schemas.describe(field))
    yield "COMMENT ON TABLE feature_columns IS 'What the columns of the feature sets mean: one row per set and column.'"
    for field in FEATURE_COLUMNS:
        yield _column("feature_columns", field.name, schemas.describe(field))
    for name in found.feature_sets:
        about = literal(f"Imported feature set {name}: one row per track.")
        yield f"COMMENT ON VIEW {identifier(f'features_{name}')} IS {about}"
        for row in _imported_rows(found, name):
            yield _column(f"features_{name}", str(row[1]), f"{row[-1]} [{row[-2]}]" if row[-2] else str(row[-1]))


def _column(view: str, column: str, text: str) -> str:
    return f"COMMENT ON COLUMN {identifier(view)}.{identifier(column)} IS {literal(text)}"


def summary(folder: str, name: str) -> str:
    """The comment on top of `warehouse/<folder>/<name>.sql`, as one line."""
    text = resources.files("warehouse").joinpath(folder, f"{name}.sql").read_text("utf-8")
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)
