"""Is the store what was committed? Every file's digest and schema, every key, every value; and a sample measured again.

A file of a batch is not parsed before its digest is the one that the batch's `excerpts` names. Only reading is done
here, so no lock is taken; a batch that a running `gc` removes meanwhile is not reported. `--repair` does take the lock.
Databases in `derived` are not looked at: whoever doubts one deletes it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import posixpath
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurestore import schemas
from featurestore.errors import FeatureStoreError
from featurestore.maintenance import remeasure
from featurestore.maintenance.remeasure import Damage
from featurestore.spec import Spec
from featurestore.store import checks, files, lock, manifest, parquet, places
from featurestore.store.store import COMMIT, TOUCHED, Store
from featurestore.terminal import progress

REBUILT = ("tracks", "genres", "splits", "datasets")  # catalog tables that a build writes again
_KEYS = {"splits": ["track_id", "scheme"], "genres": ["genre_id"], "datasets": ["dataset"]}
_COLUMNS = {"mel": list(checks.KEY), "wave": list(checks.KEY)}  # the arrays are read a few at a time
_ROWS = 64  # of arrays in memory at once


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Parameters
    ----------
    files, batches : int
        How many were checked.
    recomputed : int
        Excerpts measured again.
    damages : tuple of Damage
        What is wrong.
    notes : tuple of str
        What could not be checked, or is no damage.
    dropped : tuple of str
        Batches and files that repair removed.
    """

    files: int
    batches: int
    recomputed: int
    damages: tuple[Damage, ...]
    notes: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    def as_table(self) -> pa.Table:
        """The damages as a table.

        Returns
        -------
        pyarrow.Table
            file, batch (NULL outside the measured tables), damage: one row for each.
        """
        rows = [{"file": d.file, "batch": d.batch or None, "damage": d.message} for d in self.damages]
        schema = pa.schema([("file", pa.string()), ("batch", pa.string()), ("damage", pa.string())])
        return pa.Table.from_pylist(rows, schema=schema)


def verify(store_url: str, *, sample: int = 0, repair: bool = False, jobs: int = 1) -> VerifyReport:
    """Check a whole store.

    Parameters
    ----------
    store_url : str
        Path or URL of the store.
    sample : int
        How many tracks are measured again from their audio, where that is at hand.
    repair : bool
        Remove damaged batches and rewrite what can be rewritten, so that the next build redoes just that.
    jobs : int
        Batches checked at once; each takes the memory of its features and of 64 spectrograms.

    Returns
    -------
    VerifyReport

    Raises
    ------
    MissingStore
        If there is no store.
    StoreBusy
        If it is to be repaired while another process writes.
    StoreDamaged
        If `store.json` and its copy are both damaged.
    """
    store, found = _open(store_url)
    batches = store.batches()
    checking = progress.bar("checking batches", len(batches))
    with checking as bar, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for damages in pool.map(lambda b: check_batch(store, b), batches):
            found += damages
            bar.advance()
    tables = [f"{places.CATALOG}/{name}.parquet" for name in store.catalog_names()]
    if store.fs.exists(store.path(TOUCHED)):
        tables.append(TOUCHED)
    found += [d for file in tables for d in check_table(store, file)]
    if not found:
        found += _check_agreement(store)
    notes = [f"{p}: left by a command that was stopped, or is going on; not read by anyone" for p in store.leftovers()]
    recomputed = 0
    if sample and not found:
        recomputed = remeasure.sample(store, sample, found, notes)
    still = set(store.batches())
    found = [d for d in found if not d.batch or d.batch in still]
    dropped = _repair(store, found) if repair and found else ()
    count = 2 + len(batches) * len(schemas.MEASURED) + len(tables)
    return VerifyReport(count, len(batches), recomputed, tuple(found), tuple(notes), dropped)


def _open(url: str) -> tuple[Store, list[Damage]]:
    """The store; where `store.json` is damaged, as its copy describes it."""
    fs, root = files.resolve(url)
    path = f"{root}/{manifest.COPY}"
    copy, found = None, []
    try:
        copy = manifest.parse(path, files.read_bytes(fs, path))
    except FileNotFoundError:
        pass  # its writer died before; the next one writes it
    except (FeatureStoreError, OSError) as error:
        found.append(Damage(manifest.COPY, "", str(getattr(error, "message", error))))
    try:
        return Store.open(url), found
    except FeatureStoreError as error:
        if copy is None:
            raise
        store = Store(url, fs, root, Spec.from_dict(copy["spec"]), copy)
        return store, [Damage(manifest.MANIFEST, "", error.message)]


# ---------------------------------------------------------------- batches


@contextlib.contextmanager
def _noted(found: list[Damage], file: str, batch: str = "") -> Iterator[None]:
    """Whatever the block raises about a file is a damage of it."""
    try:
        yield
    except FileNotFoundError:
        found.append(Damage(file, batch, "missing"))
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        found.append(Damage(file, batch, str(error)))


def _local(store: Store, folder: str, name: str) -> contextlib.AbstractContextManager[str]:
    return files.local_copy(store.fs, store.path(folder, f"{name}.parquet"))


def check_batch(store: Store, batch: str) -> list[Damage]:
    """Check one committed batch: digests, schemas, then values.

    Parameters
    ----------
    store : Store
        The store.
    batch : str
        Name of the batch.

    Returns
    -------
    list of Damage
        Empty where it is sound.
    """
    found: list[Damage] = []
    tables: dict[str, pa.Table] = {}
    digests: dict[str, str] = {}
    with _noted(found, f"excerpts/{batch}.parquet", batch), _local(store, "excerpts", batch) as path:
        parquet.check_content(path)
        tables["excerpts"] = _read(path, schemas.EXCERPTS)
        digests = _promised(path)
    for name in digests:
        with _noted(found, f"{name}/{batch}.parquet", batch), _local(store, name, batch) as path:
            parquet.require_digest(digests[name], files.digest(path))
            tables[name] = _read(path, schemas.measured_schema(name, store.spec), _COLUMNS.get(name))
    if found:
        return found
    wrong = checks.row_problems(tables, batch, store.spec)
    for name in _COLUMNS:
        with _noted(found, f"{name}/{batch}.parquet", batch), _local(store, name, batch) as path:
            wrong += _array_problems(path, name, tables["excerpts"], store.spec)
    return found + [Damage(f"{w.partition(':')[0]}/{batch}.parquet", batch, w.partition(": ")[2]) for w in wrong]


def _promised(path: str) -> dict[str, str]:
    """{table: digest} of a batch's other files, from the footer of its `excerpts`."""
    note = json.loads((pq.read_metadata(path).metadata or {}).get(COMMIT, b"{}"))
    if not isinstance(note, dict) or not manifest.is_sealed(note):
        raise ValueError("checksum: the digests in its footer are not those that were written")
    return dict(note["files"])


def _read(path: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """The table, if it is of the schema; only these columns of it."""
    file = pq.ParquetFile(path, page_checksum_verification=True)
    parquet.require_schema(file.schema_arrow, schema)
    return file.read(columns)


def _array_problems(path: str, name: str, excerpts: pa.Table, spec: Spec) -> list[str]:
    wrong: list[str] = []
    for rows in pq.ParquetFile(path, page_checksum_verification=True).iter_batches(_ROWS):
        table = pa.Table.from_batches([rows])
        wrong += checks.mel_problems(table, excerpts, spec) if name == "mel" else checks.wave_problems(table, spec)
    return wrong


# ---------------------------------------------------------------- catalog


def check_table(store: Store, file: str) -> list[Damage]:
    """Check a table that belongs to no batch: digest, schema, keys.

    Parameters
    ----------
    store : Store
        The store.
    file : str
        Its path below the store.

    Returns
    -------
    list of Damage
        Empty where it is sound.
    """
    found: list[Damage] = []
    name = posixpath.basename(file).removesuffix(".parquet")
    with _noted(found, file), files.local_copy(store.fs, store.path(file)) as path:
        parquet.check_content(path)
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
        if name in schemas.CATALOG:
            parquet.require_schema(table.schema, schemas.CATALOG[name])
        keys = _KEYS.get(name, ["track_id"])
        repeated = len(table) - len(table.group_by(keys).aggregate([]))
        if repeated:
            raise ValueError(f"{', '.join(keys)}: {repeated} keys are there more than once")
    return found


def _check_agreement(store: Store) -> list[Damage]:
    """Whether the catalog knows every track that the other tables speak of."""
    tracks = store.read_catalog("tracks", ["track_id"])["track_id"].combine_chunks()
    found = []
    for name, rows in (
        ("splits", store.read_catalog("splits", ["track_id"])),
        ("excerpts", store.read_current("excerpts", ["track_id"])),
        ("failures", store.read_current("failures", ["track_id"])),
    ):
        strangers = rows.filter(pc.invert(pc.is_in(rows["track_id"], tracks)))["track_id"].unique()
        if len(strangers):
            text = f"{name} speaks of {len(strangers)} tracks that it lacks, for example {strangers[0].as_py()}"
            found.append(Damage("catalog/tracks.parquet", "", text))
    genres = store.read_catalog("genres", ["genre_id", "parent_id"])
    orphans = genres.filter(pc.invert(pc.is_in(genres["parent_id"], genres["genre_id"].combine_chunks())))
    orphans = orphans["parent_id"].drop_null()
    if len(orphans):
        found.append(Damage("catalog/genres.parquet", "", f"parent {orphans[0].as_py()} is not a genre"))
    return found


# ---------------------------------------------------------------- repair


def _repair(store: Store, damages: list[Damage]) -> tuple[str, ...]:
    """Remove damaged batches and what a build writes again; write `store.json` anew. Returns what was dropped."""
    dropped = sorted({d.batch for d in damages if d.batch})
    rebuilt = {TOUCHED, *(f"catalog/{n}.parquet" for n in REBUILT)}
    with lock.hold(store.fs, store.root, "verify --repair") as held:
        store = dataclasses.replace(store, held=held)
        if any(d.file in (manifest.MANIFEST, manifest.COPY) for d in damages):
            store.update_manifest()
        for batch in dropped:
            store.remove_batch(batch)
        for file in sorted({d.file for d in damages if d.file in rebuilt}):
            files.remove(store.fs, store.path(file))
            dropped.append(file)
    return tuple(dropped)
