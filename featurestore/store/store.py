"""The store on disk: a folder (or bucket prefix) of Parquet files, committed batch by batch.

    store.json                     format version, spec and its fingerprint, golden values; sealed
    catalog/<name>.parquet         tracks, genres, splits, datasets, features_<set>; each rewritten whole
    <table>/<batch>.parquet        features, mel, wave, failures, excerpts; append-only
    gathered/features-*.parquet    a copy of one snapshot's features in one file (see `gathered`); may be deleted
    index/*.duckdb                 the same and the tracks, for SQL (see `warehouse.index`); may be deleted

Commit rule: a batch exists if and only if its `excerpts` file does. It is written last; every other file of the batch
is complete by then. Readers list `excerpts/` first and read only the batches they found there.
Superseding: where several batches hold a track (in `excerpts` or `failures`), the newest (largest name) wins.
Names are `<generation>-<index>`; every build and every compaction that writes is a generation of its own.
Every Parquet file is sealed (see `files`); the footer of `excerpts` also holds the seals of its batch's other files
and the spec.
Paths are fsspec URLs: the same rule holds on a disk and on an object store (a put is atomic; no renames).
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from featurestore import schemas
from featurestore.errors import MissingInput, MissingStore, SpecMismatch, StoreDamaged, UsageError
from featurestore.spec import Spec
from featurestore.store import files

DEFAULT_STORE = "data/store"
MANIFEST = "store.json"
GATHERED = "gathered"
INDEX = "index"
SET_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
OWN_SET = "librosa"  # the name of the measured feature set, beside imported ones
RESERVED_SETS = (OWN_SET, "long")  # `features_long` is a view of the warehouse
REPAIR = "Run `python -m featurestore verify --repair`, then build again."
_READERS = 16  # files open at once while a snapshot is taken
_SNAPSHOT_TRIES = 5


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a reader sees: the batches with rows to show, and the rows in them that newer batches supersede.

    batches      names, oldest first; a batch with nothing left to show is not among them
    superseded   (track_id int64, batch string): rows of that track in that batch are not to be shown
    retired      names of the committed batches with nothing left to show, which `gc` removes after a while
    fingerprint  of the rows that are shown, over the seals of their batches: the same rows and files, the same text
    """

    batches: tuple[str, ...]
    superseded: pa.Table
    retired: tuple[str, ...] = ()
    fingerprint: str = ""


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
                data = f.read()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingStore(
                f"no feature store at {url}: expected a folder with {MANIFEST}",
                "Make one with `python -m featurestore build --dataset demo`, or name another with --store.",
            ) from None
        manifest = read_manifest(path, data)
        return cls(url, fs, root, Spec.from_dict(manifest["spec"]), manifest)

    @classmethod
    def create(cls, url: str, spec: Spec) -> Store:
        """Make an empty store. Overwrites only the manifest; refuses nothing (see `open_or_create`)."""
        fs, root = files.resolve(url)
        manifest = {"format": schemas.FORMAT_VERSION, "spec": spec.as_dict(), "fingerprint": spec.fingerprint}
        return cls(url, fs, root, spec, manifest).update_manifest()

    def update_manifest(self, **values: Any) -> Store:
        """Write `store.json` again, sealed, with these values added or replaced; returns the store as it is now."""
        manifest = {k: v for k, v in {**self.manifest, **values}.items() if k != files.SEAL}
        manifest[files.SEAL] = _manifest_seal(manifest)
        files.write_bytes(self.fs, self.path(MANIFEST), _manifest_bytes(manifest))
        return dataclasses.replace(self, manifest=manifest)

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
        names = None if columns is None else list(columns)
        try:
            if files.is_local(self.fs):
                return pq.ParquetFile(path, page_checksum_verification=True).read(names, use_threads=False)
            with self.fs.open(path, "rb") as f:
                return pq.ParquetFile(f, page_checksum_verification=True).read(names, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise StoreDamaged(f"{path}: {error}", REPAIR) from error

    def write_batch(
        self,
        batch: str,
        tables: Mapping[str, pa.Table | Iterable[pa.Table]],
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        """Write and commit a batch: every table of MEASURED, `excerpts` last. Raises ValueError on a broken schema.

        A table may come in parts; then one part at a time is in memory. `before_commit` runs when all but `excerpts`
        is written; if it raises, the batch is not committed.
        """
        seals: dict[str, str] = {}
        for name in schemas.MEASURED:
            table, footer = tables[name], {}
            if name == "excerpts":
                since = str(self.manifest.get("values_since", ""))
                footer = {"seals": json.dumps(seals), "spec": json.dumps(self.spec.as_dict()), "values_since": since}
                if before_commit:
                    before_commit()
            path, schema = self.batch_path(name, batch), schemas.measured_schema(name, self.spec)
            if isinstance(table, pa.Table):
                seals[name] = files.write_parquet(self.fs, path, schemas.conform(table, schema), name, footer)
                continue
            with files.parquet_stream(self.fs, path, schema, name, footer) as out:
                for part in table:
                    out.write_table(schemas.conform(part, schema))
            seals[name] = out.seal

    def remove_batch(self, batch: str) -> None:
        """Delete a batch: `excerpts` first, so that no reader sees a part of it."""
        for table in reversed(schemas.MEASURED):
            files.remove(self.fs, self.batch_path(table, batch))

    def next_generation(self) -> int:
        """The number for the batch names of a new build: above every name in use, committed or not."""
        names = {n for t in schemas.MEASURED for n in files.stems(self.fs, self.path(t), ".parquet")}
        return 1 + max((int(n.partition("-")[0]) for n in names if n.partition("-")[0].isdigit()), default=0)

    def leftovers(self) -> list[str]:
        """Paths of files that no committed batch owns: what a crash left behind. Under the lock only."""
        known = {f"{b}.parquet" for b in self.batches()}
        found = []
        for folder in (*schemas.MEASURED, GATHERED, INDEX, "catalog", ""):
            for name in files.names(self.fs, self.path(folder) if folder else self.root):
                temporary = name.startswith(".") and files.TEMPORARY in name
                if temporary or (folder in schemas.MEASURED and name not in known):
                    found.append(self.path(folder, name) if folder else self.path(name))
        return found

    def snapshot(self) -> Snapshot:
        """The batches with current rows and the superseded rows in them."""
        for attempt in range(_SNAPSHOT_TRIES):
            batches = self.batches()
            try:
                with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
                    looks = list(pool.map(self._look, batches))
                break
            except StoreDamaged as error:
                # a batch that vanished was removed by gc: look again, its rows are in a newer one
                if not isinstance(error.__cause__, FileNotFoundError) or attempt == _SNAPSHOT_TRIES - 1:
                    raise
        return _supersede(batches, [ids for ids, _ in looks], [seal for _, seal in looks])

    def track_ids(self, batch: str) -> np.ndarray:
        """int64 (n,) of the tracks that a batch speaks of, measured or failed, each once."""
        return self._look(batch)[0]

    def _look(self, batch: str) -> tuple[np.ndarray, bytes]:
        """A batch's tracks, and the seal of its `excerpts`, which holds the seals of its other files."""
        tables = [self.read_batch(t, batch, ["track_id"]) for t in ("excerpts", "failures")]
        ids = np.unique(np.concatenate([t["track_id"].to_numpy() for t in tables]))
        return ids, (tables[0].schema.metadata or {}).get(files.SEAL.encode(), b"")

    def read_current(
        self, table: str, columns: Sequence[str] | None = None, snapshot: Snapshot | None = None
    ) -> pa.Table:
        """The current rows of a measured table: what the newest batch says of each track."""
        snapshot = snapshot or self.snapshot()
        schema = schemas.measured_schema(table, self.spec)
        wanted = schema if columns is None else pa.schema([schema.field(c) for c in columns])
        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            read = pool.map(lambda b: self.current_rows(table, b, wanted.names, snapshot), snapshot.batches)
            return pa.concat_tables([wanted.empty_table(), *(t.select(wanted.names).cast(wanted) for t in read)])

    def current_rows(self, table: str, batch: str, columns: Sequence[str] | None, snapshot: Snapshot) -> pa.Table:
        """One batch's rows without the superseded ones; `track_id` is always among the columns."""
        names = columns if columns is None or "track_id" in columns else ["track_id", *columns]
        rows = self.read_batch(table, batch, names)
        old = snapshot.superseded.filter(pc.equal(snapshot.superseded["batch"], batch))["track_id"]
        return rows.filter(pc.invert(pc.is_in(rows["track_id"], old.combine_chunks()))) if len(old) else rows

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
            raise StoreDamaged(f"{path}: {error}", _repair_catalog(name)) from None

    def write_catalog(self, name: str, table: pa.Table) -> None:
        """Replace a catalog table, atomically. Raises ValueError on a broken schema, UsageError on a bad set name."""
        if name in schemas.CATALOG:
            table = schemas.conform(table, schemas.CATALOG[name])
            path = self.catalog_path(name)
        else:
            path = self.feature_set_path(name.removeprefix("features_"))
        files.write_parquet(self.fs, path, table, name)

    def feature_set_path(self, name: str) -> str:
        """Where the imported feature set `name` lies. Raises UsageError for a name that cannot be one."""
        if name in RESERVED_SETS or not SET_NAME.match(name):
            raise UsageError(
                f"{name!r} cannot name an imported feature set",
                "Use lower-case letters, digits and underscores, beginning with a letter, and neither of "
                f"{', '.join(RESERVED_SETS)}.",
            )
        return self.catalog_path(f"features_{name}")

    def filesystem(self) -> Any:
        """The store's files as a pyarrow filesystem (for pyarrow.dataset)."""
        return pafs.PyFileSystem(pafs.FSSpecHandler(self.fs))


def _repair_catalog(name: str) -> str:
    if name in schemas.CATALOG:
        return "Run `python -m featurestore verify --repair`, then build or catalog every data set of the store again."
    return f"Run `python -m featurestore import-features --set {name.removeprefix('features_')} TABLE` again."


def default_scheme(store: Store) -> str:
    """`official` where the store's tracks have an official split, otherwise `artist`."""
    schemes = store.read_catalog("splits", ["scheme"])["scheme"].unique().to_pylist()
    return "official" if "official" in schemes else "artist"


def read_manifest(path: str, data: bytes) -> dict[str, Any]:
    """The content of a `store.json`. Raises StoreDamaged (not JSON, broken seal) or SpecMismatch (other format)."""
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"{path}: not valid JSON ({error})", REPAIR) from None
    if not isinstance(manifest, dict) or manifest.get("format") != schemas.FORMAT_VERSION:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise SpecMismatch(
            f"{path}: expected store format {schemas.FORMAT_VERSION}, found {found}",
            "Use the version of this toolkit that made it, or build a new store.",
        )
    if manifest.get(files.SEAL) != _manifest_seal(manifest) or data != _manifest_bytes(manifest):
        raise StoreDamaged(f"{path}: checksum: its values are not those that were sealed", REPAIR)
    if not isinstance(manifest.get("spec"), dict):
        raise StoreDamaged(f"{path}: no spec in it", REPAIR)
    return manifest


def _manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _manifest_seal(manifest: Mapping[str, Any]) -> str:
    bare = {k: v for k, v in manifest.items() if k != files.SEAL}
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


def _supersede(batches: tuple[str, ...], keys: Sequence[np.ndarray], seals: Sequence[bytes]) -> Snapshot:
    """The snapshot of `batches` (oldest first), whose tracks are `keys`."""
    ids = np.concatenate([np.empty(0, np.int64), *keys])
    owner = np.repeat(np.arange(len(batches)), [len(k) for k in keys])
    unique, which = np.unique(ids, return_inverse=True)
    newest = np.zeros(len(unique), np.int64)
    np.maximum.at(newest, which, owner)
    old = newest[which] != owner
    alive = np.bincount(owner[~old], minlength=len(batches)) > 0
    shown = old & alive[owner]
    names = np.array(batches, dtype=object)
    superseded = pa.table(
        {"track_id": pa.array(ids[shown], pa.int64()), "batch": pa.array(list(names[owner[shown]]), pa.string())}
    )
    shows = hashlib.sha256(b"".join(seal for seal, is_shown in zip(seals, alive, strict=True) if is_shown))
    place = np.cumsum(alive) - 1  # among the batches shown: `gc` removes others
    shows.update(np.stack([place[owner[shown]], ids[shown]]).astype("<i8").tobytes())
    return Snapshot(tuple(names[alive]), superseded, tuple(names[~alive]), shows.hexdigest())
