"""Is the store what was committed? Every file's seal and schema, every key, every value; and a sample measured again.

Nothing is believed before its seal holds: a damaged file is named, not parsed. Only reading is done here, so no lock
is taken; a batch that a running `gc` removes meanwhile is not reported. `--repair` does take the lock.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurestore import schemas
from featurestore.errors import AudioError, FeatureStoreError, MissingStore, SpecMismatch, StoreDamaged
from featurestore.spec import Spec
from featurestore.store import arrays, checks, files, gathered, lock, validity
from featurestore.store.store import GATHERED, INDEX, MANIFEST, Store
from featurestore.terminal import progress

REBUILT = ("tracks", "genres", "splits", "datasets")  # catalog tables that a build writes again
MEL_TOLERANCE_DB = 0.2  # uint8 keeps the mel within 0.16 dB


@dataclasses.dataclass(frozen=True)
class Damage:
    """One thing that is wrong. file: its path below the store; batch: "" outside the measured tables."""

    file: str
    batch: str
    message: str


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """files: how many were checked; batches; recomputed: excerpts measured again; damages: what is wrong;
    notes: what could not be checked, or is no damage; dropped: batches and files that repair removed."""

    files: int
    batches: int
    recomputed: int
    damages: tuple[Damage, ...]
    notes: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    def as_table(self) -> pa.Table:
        """One row for each damage: file, batch, damage."""
        rows = [{"file": d.file, "batch": d.batch or None, "damage": d.message} for d in self.damages]
        schema = pa.schema([("file", pa.string()), ("batch", pa.string()), ("damage", pa.string())])
        return pa.Table.from_pylist(rows, schema=schema)


def verify(store_url: str, *, sample: int = 0, repair: bool = False, jobs: int = 1) -> VerifyReport:
    """Check a whole store; `sample` tracks (none, unless asked) are measured again from their audio, if at hand.

    repair removes damaged batches and rewrites what can be rewritten, so that the next build redoes just that.
    Raises MissingStore, StoreBusy (repair only), StoreDamaged (`store.json` is beyond repair).
    """
    store, found = _open(store_url)
    batches = store.batches()
    checking = progress.bar("checking batches", len(batches))
    with checking as bar, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for damages in pool.map(lambda b: check_batch(store, b), batches):
            found += damages
            bar.advance()
    found += [d for name in store.catalog_names() for d in _check_catalog(store, name)]
    found += _check_touched(store)
    copies = gathered.names(store)
    found += [d for path in copies for d in _check_seal(store, path)]
    indexes = gathered.index_names(store)
    found += [d for path in indexes for d in _check_index(store, path)]
    if not found:
        found += _check_agreement(store) + _check_gathered(store)
    notes = [f"{p}: left by a build that was stopped, or is going on; not read by anyone" for p in store.leftovers()]
    recomputed = 0
    if sample and not found:
        recomputed = _recompute(store, sample, found, notes)
    there = set(store.batches())
    gone = {*copies, *indexes} - {*gathered.names(store), *gathered.index_names(store)}
    found = [d for d in found if (not d.batch or d.batch in there) and d.file not in gone]
    count = 1 + len(batches) * len(schemas.MEASURED) + len(store.catalog_names()) + len(copies) + len(indexes)
    dropped = _repair(store, found) if repair and found else ()
    return VerifyReport(count, len(batches), recomputed, tuple(found), tuple(notes), dropped)


def check_batch(store: Store, batch: str) -> list[Damage]:
    """What is wrong with one committed batch: seals, schemas, then values."""
    tables: dict[str, pa.Table] = {}
    seals: dict[str, str] = {}
    found: list[Damage] = []
    promised: dict[str, str] = {}
    for name in schemas.MEASURED:
        file = f"{name}/{batch}.parquet"

        def damage(message: str, file: str = file) -> None:
            found.append(Damage(file, batch, message))

        data = _read(store, store.batch_path(name, batch), damage)
        if data is None:
            continue
        seals[name] = files.check_seal(data)
        table = _parse(data, schemas.measured_schema(name, store.spec), damage)
        if table is not None:
            tables[name] = table
        if name == "excerpts":
            promised = json.loads(pq.read_metadata(pa.BufferReader(data)).metadata[b"seals"])
    for name, seal in promised.items():
        if seals.get(name, seal) != seal:
            found.append(Damage(f"{name}/{batch}.parquet", batch, "is intact, but not the file that was committed"))
    if not found:
        wrong = checks.problems(tables, batch, store.spec)
        found = [Damage(f"{w.partition(':')[0]}/{batch}.parquet", batch, w.partition(": ")[2]) for w in wrong]
    return found


def _open(url: str) -> tuple[Store, list[Damage]]:
    """The store; if `store.json` is damaged, as the footers of its batches describe it."""
    try:
        return Store.open(url), []
    except (StoreDamaged, SpecMismatch, MissingStore) as error:
        fs, root = files.resolve(url)
        for path in (f"{root}/excerpts/{n}" for n in sorted(files.names(fs, f"{root}/excerpts"), reverse=True)):
            data = fs.cat_file(path)
            try:
                files.check_seal(data)
            except ValueError:
                continue
            footer = pq.read_metadata(pa.BufferReader(data)).metadata
            spec = Spec.from_dict(json.loads(footer[b"spec"]))
            manifest = {"format": schemas.FORMAT_VERSION, "spec": spec.as_dict(), "fingerprint": spec.fingerprint}
            if since := footer[b"values_since"].decode():
                manifest["values_since"] = since
            return Store(url, fs, root, spec, manifest), [Damage(MANIFEST, "", error.message)]
        raise


def _read(store: Store, path: str, damage: Callable[[str], None]) -> bytes | None:
    try:
        data = bytes(store.fs.cat_file(path))
        files.check_seal(data)
        return data
    except FileNotFoundError:
        damage("missing")
    except (OSError, ValueError) as error:
        damage(str(error))
    return None


def _parse(data: bytes, schema: pa.Schema, damage: Callable[[str], None]) -> pa.Table | None:
    table = pq.read_table(pa.BufferReader(data))
    differ = set(_fields(table.schema)) ^ set(_fields(schema))
    if differ or table.column_names != schema.names:
        odd = ", ".join(sorted(differ)[:4]) or "the order of the columns"
        damage(f"schema: {len(differ)} fields differ: {odd}")
        return None
    return table


def _fields(schema: pa.Schema) -> list[str]:
    return [f"{f.name} {f.type}{'' if f.nullable else ' not null'}" for f in schema]


def _check_catalog(store: Store, name: str) -> list[Damage]:
    found: list[Damage] = []

    def damage(message: str) -> None:
        found.append(Damage(f"catalog/{name}.parquet", "", message))

    data = _read(store, store.catalog_path(name), damage)
    if data is None:
        return found
    if name in schemas.CATALOG:
        table = _parse(data, schemas.CATALOG[name], damage)
        keys = {"splits": ["track_id", "scheme"], "genres": ["genre_id"], "datasets": ["dataset"]}.get(
            name, ["track_id"]
        )
    else:
        table, keys = pq.read_table(pa.BufferReader(data)), ["track_id"]
    if table is not None:
        repeated = len(table) - len(table.group_by(keys).aggregate([]))
        if repeated:
            damage(f"{', '.join(keys)}: {repeated} keys are there more than once")
    return found


def _check_touched(store: Store) -> list[Damage]:
    return _check_seal(store, validity.TOUCHED) if store.fs.exists(store.path(validity.TOUCHED)) else []


def _check_seal(store: Store, file: str) -> list[Damage]:
    found: list[Damage] = []
    _read(store, store.path(file), lambda message: found.append(Damage(file, "", message)))
    return found


def _check_index(store: Store, file: str) -> list[Damage]:
    try:
        wrong = gathered.index_damage(file, store.fs.cat_file(store.path(file)))
    except (FileNotFoundError, OSError) as error:
        wrong = f"cannot be read ({error})"
    return [Damage(file, "", wrong)] if wrong else []


def _check_gathered(store: Store) -> list[Damage]:
    """Whether the gathered features, where there are any, are those of the batches."""
    snapshot = store.snapshot()
    path = gathered.find(store, snapshot)
    if path is None:
        return []
    found: list[Damage] = []
    data = bytes(store.fs.cat_file(store.path(path)))
    copy = _parse(
        data, schemas.measured_schema("features", store.spec), lambda text: found.append(Damage(path, "", text))
    )
    if copy is None:
        return found
    at = 0
    for batch in snapshot.batches:
        rows = store.current_rows("features", batch, None, snapshot)
        if not copy.slice(at, len(rows)).equals(rows.select(copy.column_names).cast(copy.schema)):
            return [Damage(path, "", f"differs from the rows of batch {batch}, which it was gathered from")]
        at += len(rows)
    return [] if at == len(copy) else [Damage(path, "", f"expected the {at} rows of its batches, found {len(copy)}")]


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


# ---------------------------------------------------------------- measuring again


def _recompute(store: Store, sample: int, found: list[Damage], notes: list[str]) -> int:
    """Measure `sample` tracks again, spread over the store; returns how many excerpts could be."""
    rows = store.read_current("excerpts", ["track_id", "batch", "source_hash"]).sort_by("track_id")
    tracks = rows.group_by(["track_id", "batch", "source_hash"], use_threads=False).aggregate([]).to_pylist()
    where = _audio_files(store)
    done = 0
    with progress.bar("measuring a sample again", min(sample, len(tracks))) as bar:
        for row in tracks[:: max(1, len(tracks) // sample)][:sample]:
            done += _remeasure(store, row, where.get(row["track_id"]), found, notes)
            bar.advance()
    return done


def _audio_files(store: Store) -> dict[int, str]:
    from featurestore.datasets import audio_path, decode_name

    roots = dict(zip(*store.read_catalog("datasets", ["dataset", "audio"]).to_pydict().values(), strict=True))
    tracks = store.read_catalog("tracks", ["track_id", "dataset", "path"]).to_pylist()
    return {
        t["track_id"]: audio_path(decode_name(roots[t["dataset"]]), t["path"])
        for t in tracks
        if t["path"] is not None and roots.get(t["dataset"])
    }


def _remeasure(store: Store, row: dict[str, object], source: str | None, found: list[Damage], notes: list[str]) -> int:
    """Measure one track again and compare; returns the excerpts that were."""
    from featurestore.measure import golden
    from featurestore.measure.file import measure_file

    track, batch = int(str(row["track_id"])), str(row["batch"])
    if source is None:
        notes.append(f"track {track}: its audio is not known, not measured again")
        return 0
    try:
        digest, measured = measure_file(source, store.spec)
    except (AudioError, FeatureStoreError) as error:  # the file, or the place of all files
        notes.append(f"track {track}: not measured again: {error.message}")
        return 0
    if digest != row["source_hash"]:
        notes.append(f"track {track}: its file has changed since; build again to measure it")
        return 0
    mine = pc.field("track_id") == track
    features = store.read_batch("features", batch).filter(mine).sort_by("excerpt").to_pylist()
    mels = store.read_batch("mel", batch).filter(mine).sort_by("excerpt")
    for i, (stored, (_, now)) in enumerate(zip(features, measured, strict=True)):
        values = {k: v for k, v in stored.items() if k not in checks.KEY}
        again = dict(zip(values, map(float, now.features), strict=True))
        moved = golden.differences({"values": values}, {"values": again})
        if moved:
            text = f"track {track}: {len(moved)} features differ from its audio, for example {moved[0]}"
            found.append(Damage(f"features/{batch}.parquet", batch, text))
        mel = arrays.decode_mel(mels["mel"][i].as_buffer(), store.spec.mel_dtype, store.spec.n_mels)
        if mel.shape != now.mel.shape or np.abs(mel - now.mel).max() > MEL_TOLERANCE_DB:
            found.append(Damage(f"mel/{batch}.parquet", batch, f"track {track}: the mel differs from its audio"))
    return len(measured)


# ---------------------------------------------------------------- repair


def _repair(store: Store, damages: list[Damage]) -> tuple[str, ...]:
    """Remove damaged batches and what a build writes again; write `store.json` anew. Returns what was dropped."""
    dropped = sorted({d.batch for d in damages if d.batch})
    with lock.hold(store.fs, store.root, "verify --repair"):
        if any(d.file == MANIFEST for d in damages):
            store.update_manifest()
        for batch in dropped:
            store.remove_batch(batch)
        again = {validity.TOUCHED, *(f"catalog/{n}.parquet" for n in REBUILT)}
        for file in sorted({d.file for d in damages if not d.batch}):
            if file in again or file.startswith((f"{GATHERED}/", f"{INDEX}/")):
                files.remove(store.fs, store.path(file))
                dropped.append(file)
    return tuple(dropped)
