"""Which rows: the keys of a feature set by split, subset and label, and where each row lies in the store."""

from __future__ import annotations

import contextlib
import os
from importlib import resources

import numpy as np
import pyarrow as pa

from featurestore import schemas
from featurestore.catalog import splits
from featurestore.errors import MissingInput, UsageError
from featurestore.store.store import OWN_SET, Store, default_scheme
from warehouse.arrays.rows import key_arrays, positions
from warehouse.database.connection import session
from warehouse.database.readonly import PREFIX
from warehouse.database.views import SCHEMA, Contents, contents, identifier, measured_sql

MEASURED_TABLES = ("features", "mel", "wave")


def open_contents(store: Store | str | os.PathLike[str]) -> Contents:
    """The contents of a Store, or of the store at a path or URL."""
    return contents(store if isinstance(store, Store) else Store.open(os.fspath(store)))


def examples(
    store: Store | str | os.PathLike[str],
    *,
    scheme: str,
    split: str | None = None,
    subset: str | None = None,
    table: str = "mel",
) -> pa.Table:
    """The labelled keys that can be exported from `table` (features, mel or wave), ordered by key.

    Columns: track_id int64, excerpt int16, genre string, split string. Raises UsageError for an unknown name,
    MissingInput where the store has no such split or nothing of that table.
    """
    if table not in MEASURED_TABLES:
        raise UsageError(f"no table {table!r} to export", f"Expected one of {', '.join(MEASURED_TABLES)}.")
    found = open_contents(store)
    require_table(found, table)
    rows = select_keys(found, scheme=scheme, split=split, subset=subset, labelled=True)
    return rows.select(["track_id", "excerpt", "genre", "split"])


def require_table(found: Contents, table: str) -> None:
    """Raise MissingInput where the store measured nothing, or keeps no waveforms and `table` is wave."""
    if table == "wave" and not found.store.spec.wave_samples:
        raise MissingInput(
            f"store {found.store.url} keeps no waveforms (spec: wave_seconds is 0)",
            "Build a store that does: `python -m featurestore build --wave-seconds 3 --store PATH ...`.",
        )
    if not found.snapshot.batches:
        raise MissingInput(
            f"store {found.store.url} has no {table} rows: nothing was measured yet",
            "Measure audio with `python -m featurestore build --dataset NAME --audio DIR`.",
        )


def select_keys(
    found: Contents,
    *,
    features: str = OWN_SET,
    scheme: str | None,
    split: str | None,
    subset: str | None,
    labelled: bool,
) -> pa.Table:
    """Keys with batch, genre, artist_id and split, ordered by (track_id, excerpt).

    scheme None means the store's default where a split is asked for, else no scheme at all. Raises UsageError for an
    unknown split, scheme or subset, MissingInput for a split or a label that the store does not have.
    """
    _check_choice("split", split, schemas.SPLITS)
    _check_choice("scheme", scheme, schemas.SCHEMES)
    _check_choice("subset", subset, schemas.SUBSETS)
    if split is not None and scheme is None:
        scheme = default_scheme(found.store)
    parameters = {
        "scheme": scheme,
        "split": split,
        "subsets": None if subset is None else list(schemas.SUBSETS[: schemas.SUBSETS.index(subset) + 1]),
        "labelled": labelled,
    }
    sql = resources.files("warehouse").joinpath("sql", "keys.sql").read_text("utf-8")
    with contextlib.closing(session(found, ["tracks", "splits", f"features_{features}"])) as connection:
        located = f"({_located_sql(found, features)})"
        rows = connection.sql(sql.replace("{located}", located), params=parameters).to_arrow_table()
    if not len(rows):
        _explain_nothing(found, features, scheme, split, subset, labelled)
    return rows


def locate_keys(found: Contents, keys: pa.Table) -> pa.Table:
    """The rows of `select_keys` for `keys` (track_id, excerpt), in their order. Raises UsageError or MissingInput."""
    absent = {"track_id", "excerpt"} - set(keys.column_names)
    if absent:
        raise UsageError(
            f"keys lack the column {' and '.join(sorted(absent))}; found {', '.join(keys.column_names) or 'none'}",
            "Take them from warehouse.examples(...).",
        )
    rows = select_keys(found, scheme=None, split=None, subset=None, labelled=False)
    at = positions(key_arrays(keys), key_arrays(rows))
    if len(at) and at.min() < 0:
        track, excerpt = (c[at.argmin()] for c in key_arrays(keys))
        raise MissingInput(
            f"store {found.store.url} holds no excerpt {excerpt} of track {track}",
            "Take the keys from warehouse.examples(...) on the same store.",
        )
    return rows.take(at)


def _located_sql(found: Contents, features: str) -> str:
    if features == OWN_SET:
        excerpts = measured_sql(found, "excerpts", PREFIX, extra="filename")
        return f"SELECT track_id, excerpt, parse_filename(filename, true) AS batch FROM ({excerpts})"
    name = identifier(f"features_{features}")
    return f"SELECT track_id, 0::SMALLINT AS excerpt, NULL::VARCHAR AS batch FROM {SCHEMA}.{name}()"


def _check_choice(what: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise UsageError(f"unknown {what} {value!r}", f"Expected one of {', '.join(choices)}.")


def _explain_nothing(
    found: Contents, features: str, scheme: str | None, split: str | None, subset: str | None, labelled: bool
) -> None:
    store = found.store
    if scheme is not None and scheme not in store.read_catalog("splits", ["scheme"])["scheme"].unique().to_pylist():
        raise MissingInput(
            f"store {store.url} has no splits of scheme {scheme!r}",
            splits.advice(scheme),
        )
    asked = {"split": split, "scheme": scheme, "subset": subset}
    limits = [f"{k} {v}" for k, v in asked.items() if v is not None] + (["labelled"] if labelled else [])
    raise MissingInput(
        f"store {store.url} has no rows of feature set {features!r} that are {', '.join(limits) or 'current'}",
        "See what it holds with `python -m featurestore status`; labels come from `python -m featurestore catalog`.",
    )


def artist_groups(keys: pa.Table) -> np.ndarray:
    """The artist of each row (n,) int64; a track whose artist is unknown is a group of its own (negative)."""
    artist = keys["artist_id"].combine_chunks()
    known = artist.is_valid().to_numpy(zero_copy_only=False)
    return np.where(known, artist.fill_null(0).to_numpy(), -1 - keys["track_id"].to_numpy())
