"""The store on disk: a folder (or bucket prefix) of Parquet files, committed batch by batch.

    store.json                     format version, spec and its fingerprint
    catalog/<name>.parquet         tracks, genres, splits, datasets, features_<set>; each rewritten whole
    <table>/<batch>.parquet        features, mel, wave, failures, excerpts; append-only

Commit rule: a batch exists if and only if its `excerpts` file does. It is written last; every other file of the batch
is complete by then. Readers list `excerpts/` first and read only the batches they found there.
Superseding: where several batches hold a track (in `excerpts` or `failures`), the newest (largest name) wins.
Paths are fsspec URLs: the same rule holds on a disk and on an object store (a put is atomic; no renames).
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from featurestore import files, schemas
from featurestore.errors import MissingInput, MissingStore, SpecMismatch, StoreDamaged, UsageError
from featurestore.spec import Spec

DEFAULT_STORE = "data/store"
MANIFEST = "store.json"
SET_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
OWN_SET = "librosa"  # the name of the measured feature set, beside imported ones


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a reader sees: the committed batches, and the rows in them that newer batches supersede.

    superseded holds (track_id int64, batch string): rows of that track in that batch are not to be shown.
    """

    batches: tuple[str, ...]
    superseded: pa.Table


@dataclasses.dataclass(frozen=True)
class Store:
    """A store at `url`. Make one with `Store.open`, `Store.create` or `Store.open_or_create`."""

    url: str
    fs: Any
    root: str
    spec: Spec
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, url: str) -> Store:
        """Open an existing store. Raises MissingStore, SpecMismatch (other format) or StoreDamaged."""
        fs, root = files.resolve(url)
        path = posixpath.join(root, MANIFEST)
        try:
            with fs.open(path, "rb") as f:
                manifest = json.loads(f.read())
        except (FileNotFoundError, NotADirectoryError):
            raise MissingStore(
                f"no feature store at {url}: expected a folder with {MANIFEST}",
                "Make one with `python -m featurestore build --dataset demo`, or name another with --store.",
            ) from None
        except ValueError as error:
            raise StoreDamaged(f"{path}: not valid JSON ({error})", "Restore the file or build a new store.") from None
        if not isinstance(manifest, dict) or manifest.get("format") != schemas.FORMAT_VERSION:
            found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
            raise SpecMismatch(
                f"{path}: expected store format {schemas.FORMAT_VERSION}, found {found}",
                "Use the version of this toolkit that made it, or build a new store.",
            )
        return cls(url, fs, root, Spec.from_dict(manifest["spec"]), manifest)

    @classmethod
    def create(cls, url: str, spec: Spec) -> Store:
        """Make an empty store. Overwrites only the manifest; refuses nothing (see `open_or_create`)."""
        fs, root = files.resolve(url)
        manifest = {"format": schemas.FORMAT_VERSION, "spec": spec.as_dict(), "fingerprint": spec.fingerprint}
        files.write_bytes(fs, posixpath.join(root, MANIFEST), (json.dumps(manifest, indent=2) + "\n").encode())
        return cls(url, fs, root, spec, manifest)

    @classmethod
    def open_or_create(cls, url: str, spec: Spec | None = None) -> Store:
        """Open the store, or make it with `spec` (default: the default spec).

        Raises SpecMismatch, naming the numbers, if measured rows exist that were made with another spec; a store with
        labels only takes the new spec.
        """
        try:
            store = cls.open(url)
        except MissingStore:
            return cls.create(url, spec or Spec())
        if spec is None or spec == store.spec:
            return store
        if store.batches():
            store.spec.require(spec, here=f"store {url}", there="this command")
        return cls.create(url, spec)

    def path(self, *parts: str) -> str:
        """A path inside the store, as its filesystem spells it."""
        return posixpath.join(self.root, *parts)

    # ---------------------------------------------------------------- measured tables

    def batches(self) -> tuple[str, ...]:
        """Names of the committed batches, oldest first."""
        return tuple(sorted(files.stems(self.fs, self.path("excerpts"), ".parquet")))

    def batch_path(self, table: str, batch: str) -> str:
        """Path of one batch's file of a measured table."""
        return self.path(table, f"{batch}.parquet")

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All committed rows of a measured table, superseded ones included. The warehouse shows the current rows."""
        schema = schemas.measured_schema(table, self.spec)
        wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
        parts = [self.read_batch(table, b, wanted.names) for b in self.batches()]
        return pa.concat_tables([wanted.empty_table(), *parts])

    def read_batch(self, table: str, batch: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One batch's rows of a measured table. Raises StoreDamaged where the file is missing or broken."""
        path = self.batch_path(table, batch)
        try:
            with self.fs.open(path, "rb") as f:
                return pq.read_table(f, columns=None if columns is None else list(columns))
        except (OSError, pa.ArrowException) as error:
            raise StoreDamaged(
                f"{path}: {error}", "Run `python -m featurestore verify --repair`, then build again."
            ) from None

    def write_batch(self, batch: str, tables: Mapping[str, pa.Table]) -> None:
        """Write and commit a batch: every table of MEASURED, `excerpts` last. Raises ValueError on a broken schema."""
        for name in schemas.MEASURED:
            table = schemas.conform(tables[name], schemas.measured_schema(name, self.spec))
            files.write_parquet(self.fs, self.batch_path(name, batch), table, name)

    def snapshot(self) -> Snapshot:
        """The committed batches and the superseded rows in them."""
        batches = self.batches()
        keys = []
        for batch in batches:
            for table in ("excerpts", "failures"):
                ids = self.read_batch(table, batch, ["track_id"])["track_id"].unique()
                keys.append(pa.table({"track_id": ids, "batch": pa.array([batch] * len(ids), pa.string())}))
        empty = pa.table({"track_id": pa.array([], pa.int64()), "batch": pa.array([], pa.string())})
        seen = pa.concat_tables([empty, *keys])
        newest = seen.group_by("track_id").aggregate([("batch", "max")])
        joined = seen.join(newest, "track_id")
        old = joined.filter(pc.not_equal(joined["batch"], joined["batch_max"]))
        return Snapshot(batches, old.select(["track_id", "batch"]).combine_chunks())

    # ---------------------------------------------------------------- catalog

    def catalog_names(self) -> tuple[str, ...]:
        """Names of the catalog tables present: tracks, genres, splits, datasets, features_<set>."""
        return tuple(sorted(files.stems(self.fs, self.path("catalog"), ".parquet")))

    def feature_sets(self) -> tuple[str, ...]:
        """Names of the imported feature sets (without the measured set `librosa`)."""
        return tuple(n.removeprefix("features_") for n in self.catalog_names() if n.startswith("features_"))

    def catalog_path(self, name: str) -> str:
        """Path of a catalog table."""
        return self.path("catalog", f"{name}.parquet")

    def read_catalog(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A catalog table. One of the four fixed tables that is absent is empty; an absent feature set is an error."""
        path = self.catalog_path(name)
        try:
            with self.fs.open(path, "rb") as f:
                return pq.read_table(f, columns=None if columns is None else list(columns))
        except FileNotFoundError:
            if name in schemas.CATALOG:
                table = schemas.CATALOG[name].empty_table()
                return table if columns is None else table.select(list(columns))
            sets = ", ".join((OWN_SET, *self.feature_sets()))
            raise MissingInput(
                f"store {self.url} has no feature set {name.removeprefix('features_')!r}; it has {sets}",
                "Add one with `python -m featurestore import-features --set NAME TABLE`.",
            ) from None
        except (OSError, pa.ArrowException) as error:
            raise StoreDamaged(f"{path}: {error}", "Run `python -m featurestore catalog` again.") from None

    def write_catalog(self, name: str, table: pa.Table) -> None:
        """Replace a catalog table, atomically. Raises ValueError on a broken schema, UsageError on a bad set name."""
        if name in schemas.CATALOG:
            table = schemas.conform(table, schemas.CATALOG[name])
        elif not (name.startswith("features_") and SET_NAME.match(name.removeprefix("features_"))):
            raise UsageError(
                f"{name.removeprefix('features_')!r} cannot name a feature set",
                "Use lower-case letters, digits and underscores, beginning with a letter.",
            )
        files.write_parquet(self.fs, self.catalog_path(name), table, name)

    def filesystem(self) -> Any:
        """The store's files as a pyarrow filesystem (for pyarrow.dataset)."""
        return pafs.PyFileSystem(pafs.FSSpecHandler(self.fs))


def default_scheme(store: Store) -> str:
    """`official` where the store's tracks have an official split, otherwise `artist`."""
    schemes = store.read_catalog("splits", ["scheme"])["scheme"].unique().to_pylist()
    return "official" if "official" in schemes else "artist"
