"""What every column means: descriptions from the schemas and the feature registry, as rows and as SQL comments."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from importlib import resources

import pyarrow as pa

from featurestore import registry, schemas
from featurestore.spec import Spec
from featurestore.store.store import OWN_SET
from warehouse.database.views import Contents, catalog_schema, identifier, literal


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
    for field in catalog_schema(found, f"features_{name}"):
        if field.name == "track_id":
            continue
        feature, statistic, dimension = registry.parse_column(field.name) or (field.name, None, None)
        known = registry.BY_NAME.get(feature)
        text = schemas.describe(field) or (known.description if known else "")
        group, unit = (known.group, registry.unit_of(known, statistic)) if known else (None, "")
        yield name, field.name, feature, statistic, dimension, group, unit, text


def spec_rows(spec: Spec) -> pa.Table:
    """The spec as rows (name, value as JSON)."""
    values = {**spec.as_dict(), "fingerprint": spec.fingerprint}
    return pa.table({"name": list(values), "value": [json.dumps(v) for v in values.values()]})


def statements(found: Contents, views: Iterable[str]) -> Iterator[str]:
    """`COMMENT ON` statements for the views and macros (from the top of their files) and for columns."""
    spec = found.store.spec
    described = {t: schemas.measured_schema(t, spec) for t in schemas.MEASURED} | schemas.CATALOG
    for view in views:
        yield f"COMMENT ON VIEW {view} IS {literal(summary('views', view))}"
        for field in described.get(view, ()):
            yield _column(view, field.name, schemas.describe(field))
    for path in sorted(resources.files("warehouse").joinpath("sql", "macros").iterdir(), key=lambda p: p.name):
        kind = "MACRO TABLE" if " AS TABLE" in path.read_text("utf-8") else "MACRO"
        name = path.name.removesuffix(".sql")
        yield f"COMMENT ON {kind} {name} IS {literal(summary('macros', name))}"
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
    """The first sentence of the comment on top of `warehouse/<folder>/<name>.sql`; the rest is for its readers."""
    text = resources.files("warehouse").joinpath("sql", folder, f"{name}.sql").read_text("utf-8")
    comment = itertools.takewhile(lambda line: line.startswith("--"), text.splitlines())
    return re.split(r"(?<=[.?]) ", " ".join(line.removeprefix("--").strip() for line in comment))[0]
