"""The store on disk: a folder (or bucket prefix) of Parquet files, committed batch by batch.

    store.json                     format version, spec and its fingerprint, golden values (see `manifest`), and a copy
    catalog/<name>.parquet         tracks, genres, splits, datasets, features_<set>; each rewritten whole
    <table>/<batch>.parquet        features, mel, wave, failures, excerpts; append-only
    touched.parquet                file times that changed while the content did not
    derived/*.duckdb               databases that the warehouse makes from one snapshot; each may be deleted

Commit rule: a batch exists if and only if its `excerpts` file does. It is written last; every other file of the batch
is complete by then. Readers list `excerpts/` first and read only the batches they found there.
Superseding: where several batches hold a track (in `excerpts` or `failures`), the newest (largest name) wins.
Names are `<generation>-<index>`; every build and every compaction that writes is a generation of its own.
The footer of a batch's `excerpts` holds the SHA-256 of its other files.
Paths are fsspec URLs: the same rule holds on a disk and on an object store (a put is atomic; no renames).
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from featurestore import schemas
from featurestore.errors import MissingInput, MissingStore, StoreDamaged, UsageError
from featurestore.spec import Spec
from featurestore.store import files, lock, manifest, parquet, places
from featurestore.store.snapshot import Snapshot, supersede

TOUCHED = "touched.parquet"
SET_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
OWN_SET = "librosa"  # the name of the measured feature set, beside imported ones
RESERVED_SETS = (OWN_SET, "long")  # `features_long` is a view of the warehouse
COMMIT = b"commit"  # note in the footer of `excerpts`: {"files": {table: digest}}, sealed
_READERS = 16  # files open at once while a snapshot is taken
_SNAPSHOT_TRIES = 5


@dataclasses.dataclass(frozen=True)
class Store:
    """A store of features at `url`.

    Make one with `Store.open`, `Store.create` or `Store.open_or_create`.

    Parameters
    ----------
    url : str
        Where it is, as the user named it.
    fs, root
        The same as `files.resolve` gives it.
    spec : Spec
        The numbers that every measured value was made with.
    manifest : mapping
        The content of `store.json`.
    held : lock.Lock, optional
        The lock under which this process writes; every write first makes sure that it is still ours.
    """

    url: str
    fs: Any
    root: str
    spec: Spec
    manifest: Mapping[str, Any]
    held: lock.Lock | None = None

    @classmethod
    def open(cls, url: str) -> Store:
        """Open an existing store.

        Raises
        ------
        MissingStore
            If there is none at `url`.
        SpecMismatch
            If it is of another format.
        StoreDamaged
            If `store.json` is damaged, or gone where the rest of a store is.
        """
        fs, root = files.resolve(url)
        path = posixpath.join(root, manifest.MANIFEST)
        try:
            values = manifest.parse(path, files.read_bytes(fs, path))
        except (FileNotFoundError, NotADirectoryError):
            if fs.exists(posixpath.join(root, manifest.COPY)):
                raise StoreDamaged(f"{path}: missing") from None
            raise MissingStore(
                f"no feature store at {url}: expected a folder with {manifest.MANIFEST}",
                "Make one with `python -m featurestore build --dataset demo`, or name another with --store.",
            ) from None
        return cls(url, fs, root, Spec.from_dict(values["spec"]), values)

    @classmethod
    def create(cls, url: str, spec: Spec) -> Store:
        """Make an empty store, or give one that holds no batch another spec.

        Raises
        ------
        UsageError
            If the place is somebody else's, see `places.require_own`.
        FeatureStoreError
            If it cannot be written.
        """
        fs, root = files.resolve(url)
        places.require_own(fs, root)
        return cls(url, fs, root, spec, manifest.new(spec)).update_manifest()

    @classmethod
    def open_or_create(cls, url: str, spec: Spec | None = None) -> Store:
        """Open the store, or make it with `spec` (default: the default spec).

        Raises
        ------
        SpecMismatch
            If measured rows exist that were made with another spec; the message names the numbers. A store with labels
            only takes the new spec.
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

    def locked(self, held: lock.Lock) -> Store:
        """The store, read again, for a process that holds its lock; a copy of `store.json` that lags is mended."""
        store = dataclasses.replace(Store.open(self.url), held=held)
        path = self.path(manifest.COPY)
        if not self.fs.exists(path) or files.read_bytes(self.fs, path) != manifest.to_bytes(store.manifest):
            return store.update_manifest()  # the last writer died between the two
        return store

    def require_lock(self) -> None:
        """Raise StoreBusy where the store was opened under a lock that somebody else has now."""
        if self.held:
            lock.require(self.fs, self.root, self.held.token)

    def update_manifest(self, **values: Any) -> Store:
        """Write `store.json` and its copy with these values added or replaced; returns the store as it is now."""
        self.require_lock()
        new = manifest.seal({**self.manifest, **values})
        for name in (manifest.MANIFEST, manifest.COPY):
            files.write_bytes(self.fs, self.path(name), manifest.to_bytes(new))
        return dataclasses.replace(self, manifest=new)

    def path(self, *parts: str) -> str:
        """A path inside the store, as its filesystem spells it."""
        return posixpath.join(self.root, *parts)

    # ---------------------------------------------------------------- measured tables

    @property
    def values_since(self) -> str:
        """Rows of batches before this name were measured by library versions that give other values; "": none were."""
        return str(self.manifest.get("values_since", ""))

    def batches(self) -> tuple[str, ...]:
        """Names of the committed batches, oldest first."""
        return tuple(sorted(self._batch_names("excerpts")))

    def _batch_names(self, table: str) -> list[str]:
        return [n for n in files.stems(self.fs, self.path(table), ".parquet") if places.BATCH.fullmatch(n)]

    def batch_path(self, table: str, batch: str) -> str:
        """Path of one batch's file of a measured table."""
        return self.path(table, f"{batch}.parquet")

    def batch_bytes(self) -> dict[str, int]:
        """{batch: bytes of its files}, for every name in the store, committed or not."""
        total: dict[str, int] = {}
        for table in schemas.MEASURED:
            for name, size in files.sizes(self.fs, self.path(table)).items():
                total[name.removesuffix(".parquet")] = total.get(name.removesuffix(".parquet"), 0) + size
        return total

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All committed rows of a measured table, superseded ones included. The warehouse shows the current rows."""
        wanted = self._columns(table, columns)
        parts = [self.read_batch(table, b, wanted.names) for b in self.batches()]
        return pa.concat_tables([wanted.empty_table(), *parts])

    def read_batch(self, table: str, batch: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One batch's rows of a measured table. Raises StoreDamaged where the file is missing or broken."""
        path = self.batch_path(table, batch)
        try:
            return parquet.read(self.fs, path, columns)
        except (OSError, pa.ArrowException) as error:
            raise StoreDamaged(f"{path}: {error}") from error

    def _columns(self, table: str, columns: Sequence[str] | None) -> pa.Schema:
        schema = schemas.measured_schema(table, self.spec)
        return schema if columns is None else pa.schema([schema.field(c) for c in columns])

    def write_batch(
        self,
        batch: str,
        tables: Mapping[str, pa.Table | Iterable[pa.Table]],
        before_commit: Callable[[], None] | None = None,
    ) -> None:
        """Write and commit a batch, `excerpts` last.

        Parameters
        ----------
        batch : str
            A new name, `NNNNNN-NNNNN`.
        tables : mapping of str to pa.Table or iterable of pa.Table
            Every table of `schemas.MEASURED`. Of a table that comes in parts, one part at a time is in memory.
        before_commit : callable, optional
            Runs when all but `excerpts` is written; if it raises, the batch is not committed. By default the lock of
            `held` is compared.

        Raises
        ------
        ValueError
            If a table is not of its schema, or the name is none of a batch.
        FeatureStoreError
            If the store cannot be written.
        """
        if not places.BATCH.fullmatch(batch):
            raise ValueError(f"{batch!r} cannot name a batch, expected NNNNNN-NNNNN")
        digests: dict[str, str] = {}
        for name in schemas.MEASURED:
            notes = {}
            if name == "excerpts":
                notes = {COMMIT.decode(): json.dumps(manifest.seal({"files": digests}))}
                (before_commit or self.require_lock)()
            table, schema = tables[name], schemas.measured_schema(name, self.spec)
            with parquet.stream(self.fs, self.batch_path(name, batch), schema, name, notes) as out:
                for part in [table] if isinstance(table, pa.Table) else table:
                    out.write_table(schemas.conform(part, schema))
            digests[name] = out.digest

    def remove_batch(self, batch: str) -> None:
        """Delete a batch: `excerpts` first, so that no reader sees a part of it."""
        self.require_lock()
        for table in reversed(schemas.MEASURED):
            files.remove(self.fs, self.batch_path(table, batch))

    def next_generation(self) -> int:
        """The number for the batch names of a new build: above every name in use, committed or not."""
        return 1 + max((int(n.partition("-")[0]) for t in schemas.MEASURED for n in self._batch_names(t)), default=0)

    def leftovers(self) -> list[str]:
        """Paths of the store's own files that no committed batch owns: what a crash left behind. Under the lock only.

        Files of other names are somebody's, and are not among them.
        """
        known = set(self.batches())
        found = [
            self.batch_path(table, name)
            for table in schemas.MEASURED
            for name in self._batch_names(table)
            if name not in known
        ]
        for folder in (*places.FOLDERS, ""):
            here = self.path(folder) if folder else self.root
            found += [posixpath.join(here, n) for n in files.names(self.fs, here) if files.is_temporary(n)]
        return found

    def snapshot(self, only: Sequence[str] | None = None) -> Snapshot:
        """The batches with current rows and the superseded rows in them, as if there were `only` these batches.

        Raises StoreDamaged.
        """
        for attempt in range(_SNAPSHOT_TRIES):
            batches = self.batches() if only is None else tuple(only)
            try:
                with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
                    looks = list(pool.map(self._look, batches))
                break
            except StoreDamaged as error:
                # a batch that vanished was removed by gc: look again, its rows are in a newer one
                if not isinstance(error.__cause__, FileNotFoundError) or attempt == _SNAPSHOT_TRIES - 1:
                    raise
        return supersede(batches, [tracks for tracks, _ in looks], [digest for _, digest in looks])

    def _look(self, batch: str) -> tuple[np.ndarray, bytes]:
        """A batch's tracks, measured or failed, each once; and the digests of its files."""
        tables = [self.read_batch(t, batch, ["track_id"]) for t in ("excerpts", "failures")]
        tracks = np.unique(np.concatenate([t["track_id"].to_numpy() for t in tables]))
        notes = tables[0].schema.metadata or {}
        return tracks, notes.get(parquet.CONTENT, b"") + notes.get(COMMIT, b"")

    def read_current(
        self, table: str, columns: Sequence[str] | None = None, snapshot: Snapshot | None = None
    ) -> pa.Table:
        """The current rows of a measured table: what the newest batch says of each track."""
        snapshot = snapshot or self.snapshot()
        wanted = self._columns(table, columns)
        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            read = pool.map(lambda b: self.current_rows(table, b, wanted.names, snapshot), snapshot.batches)
            return pa.concat_tables([wanted.empty_table(), *(t.select(wanted.names).cast(wanted) for t in read)])

    def current_rows(self, table: str, batch: str, columns: Sequence[str] | None, snapshot: Snapshot) -> pa.Table:
        """One batch's rows without the superseded ones; `track_id` is always among the columns."""
        import pyarrow.compute as pc  # takes a tenth of a second, which a question in SQL never needs

        names = columns if columns is None or "track_id" in columns else ["track_id", *columns]
        rows = self.read_batch(table, batch, names)
        old = snapshot.superseded.filter(pc.equal(snapshot.superseded["batch"], batch))["track_id"]
        return rows.filter(pc.invert(pc.is_in(rows["track_id"], old.combine_chunks()))) if len(old) else rows

    # ---------------------------------------------------------------- catalog

    def catalog_names(self) -> tuple[str, ...]:
        """Names of the catalog tables present: tracks, genres, splits, datasets, features_<set>."""
        return tuple(sorted(files.stems(self.fs, self.path(places.CATALOG), ".parquet")))

    def feature_sets(self) -> tuple[str, ...]:
        """Names of the imported feature sets (without the measured set `librosa`)."""
        return tuple(n.removeprefix("features_") for n in self.catalog_names() if n.startswith("features_"))

    def catalog_path(self, name: str) -> str:
        """Path of a catalog table."""
        return self.path(places.CATALOG, f"{name}.parquet")

    def read_catalog(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A catalog table.

        Parameters
        ----------
        name : str
            tracks, genres, splits, datasets, or features_<set>.
        columns : sequence of str, optional
            The columns to read; all, unless given.

        Returns
        -------
        pa.Table
            One of the four fixed tables that is not there is empty.

        Raises
        ------
        MissingInput
            If the store has no such feature set.
        StoreDamaged
            If the file is broken.
        """
        path = self.catalog_path(name)
        try:
            return parquet.read(self.fs, path, columns, threads=True)
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
        self.require_lock()
        if name in schemas.CATALOG:
            table = schemas.conform(table, schemas.CATALOG[name])
            path = self.catalog_path(name)
        else:
            path = self.feature_set_path(name.removeprefix("features_"))
        parquet.write(self.fs, path, table, name)

    def feature_set_path(self, name: str) -> str:
        """Where the imported feature set `name` lies. Raises UsageError for a name that cannot be one."""
        if name in RESERVED_SETS or not SET_NAME.match(name):
            raise UsageError(
                f"{name!r} cannot name an imported feature set",
                "Use lower-case letters, digits and underscores, beginning with a letter, and neither of "
                f"{', '.join(RESERVED_SETS)}.",
            )
        return self.catalog_path(f"features_{name}")


def _repair_catalog(name: str) -> str:
    if name in schemas.CATALOG:
        return "Run `python -m featurestore verify --repair`, then build or catalog every data set of the store again."
    return f"Run `python -m featurestore import-features --set {name.removeprefix('features_')} TABLE` again."


def default_scheme(store: Store) -> str:
    """`official` where the store's tracks have an official split, otherwise `artist`."""
    schemes = store.read_catalog("splits", ["scheme"])["scheme"].unique().to_pylist()
    return "official" if "official" in schemes else "artist"
