"""From the store to TFRecord shards, in bounded memory: a process holds one shard of each split at a time.

Nothing half-written is ever read: a shard gets its name when it is complete, `dataset.json` is written last. A killed
export leaves `unfinished.json`, which names the choices that decide every byte, and a receipt for each finished task;
the same command goes on from there. One export reads one snapshot of the store.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import posixpath
import re

import numpy as np
import pyarrow as pa

from featurestore import registry, schemas
from featurestore.errors import FeatureStoreError, UsageError
from featurestore.store import files, places
from featurestore.store.store import OWN_SET, Store, default_scheme
from featurestore.terminal import progress
from training.shards import sidecar
from training.shards.encoding import Encoding
from training.shards.examples import Examples, examples_of
from training.shards.moments import Moments
from training.shards.plan import ShardPlan, classes_of, plan_shards
from training.shards.sidecar import Sidecar
from training.shards.write import Done, Recipe, Task, write_shards

COMPRESSIONS = ("none", "gzip")
SMALL_BYTES = 50_000_000  # of arrays in the store: below this, starting processes costs more than they save
OUR_FILES = re.compile(r"^((training|validation|test)-\d{5}-of-\d{5}-\d+\.tfrec|unfinished-\d{5}\.json)$")
VERSION = 3  # raised when the same choices would give other bytes


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export did.

    Parameters
    ----------
    folder : str
    sidecar : Sidecar or None
        None for a dry run.
    table : pyarrow.Table
        One row per split.
    kept : int
        Shards that were there already.
    """

    folder: str
    sidecar: Sidecar | None
    table: pa.Table
    kept: int

    def notes(self) -> list[str]:
        """Say what a person should know beside the table.

        Returns
        -------
        list of str
            Where the shards are, what they hold, what was there already, and which split has no record.
        """
        if self.sidecar is None:
            return [f"{self.folder}: nothing was written (dry run)"]
        side = self.sidecar
        kept = f"; {self.kept} of {len(side.shards)} shards were already there" if self.kept else ""
        what = f"{side.kind} as {side.dtype}, {len(side.classes)} genres, {side.scheme_text} split"
        empty = [s for s in schemas.SPLITS if not side.records(s)]
        lacks = [f"the split {s!r} has no records: no model can be trained on this" for s in empty]
        return [f"{self.folder}: {what}{kept}", *lacks]


def export(
    store: Store,
    *,
    kind: str = "mel",
    output: str = "data/tfrecords",
    scheme: str | None = None,
    subset: str | None = None,
    feature_set: str = OWN_SET,
    dtype: str | None = None,
    image: int | None = None,
    compression: str = "none",
    shards: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    force: bool = False,
    dry_run: bool = False,
    small_bytes: int = SMALL_BYTES,
) -> Exported:
    """Write the shards of one kind, and their sidecar, to a folder of their own.

    Parameters
    ----------
    store : Store
    kind : {"mel", "wave", "features"}
        Mel spectrograms in dB, stored waveform windows at full scale, or the columns of `feature_set`.
    output : str
        Path or URL; the shards are in `output`/<kind>, and with `image` in `output`/mel-<image>.
    scheme : str or None
        Split scheme; None is the store's default.
    subset : str or None
        FMA's subset, the smaller ones included.
    feature_set : str
    dtype : str or None
        On disk; None is float16, float32 for features.
    image : int or None
        Side of the square that mel spectrograms are resized to.
    compression : {"none", "gzip"}
    shards : int or None
        Of each split; None makes them about 100 MB.
    seed : int
        The same store, choices and seed give the same bytes.
    jobs : int
        Processes; they change no byte.
    force : bool
        Write again a complete export with the same choices, which is left alone otherwise.
    dry_run : bool
    small_bytes : int
        Below this size, in bytes of the store's arrays, one process writes everything.

    Returns
    -------
    Exported

    Raises
    ------
    MissingInput
        Nothing to export, or one genre only.
    UsageError
        Choices that do not fit each other.
    FeatureStoreError
        A place that cannot be written, or a store that changed meanwhile.
    """
    _require_choices(kind, image, compression)
    places.refuse_inside(output, "--output", store.url)
    recipe = Recipe(
        kind=kind,
        scheme=scheme or default_scheme(store),
        subset=subset,
        feature_set=feature_set if kind == "features" else None,
        **dataclasses.asdict(Encoding.of(kind, dtype, store.spec)),
        image=image,
        compression=compression,
        seed=seed,
    )
    examples = examples_of(store, kind=kind, scheme=recipe.scheme, subset=subset, feature_set=recipe.feature_set)
    classes = classes_of(examples.rows)
    size = _record_bytes(store, recipe)
    plans = plan_shards(examples.rows, classes, record_bytes=size, shards=shards, seed=seed)
    folder = posixpath.join(output, f"mel-{image}" if image else kind)
    if dry_run:
        return Exported(folder, None, _table(plans, size), 0)
    identity = _identity(recipe, plans, classes, examples.fingerprint)
    keep = _prepare(folder, identity, force)
    if isinstance(keep, Sidecar):
        return Exported(folder, keep, _table(plans, size, keep), len(keep.shards))
    tasks = _tasks(store, folder, recipe, plans, keep)
    whole = _record_bytes(store, dataclasses.replace(recipe, image=None)) * examples.rows.num_rows
    done = _run(tasks, jobs if whole > small_bytes else 1)
    _require_same_snapshot(store, examples)
    side = _sidecar(store, recipe, plans, classes, examples, identity, done)
    _finish(folder, side, tasks)
    return Exported(folder, side, _table(plans, size, side), sum(len(d.shards) for d in done if d.kept))


def _require_choices(kind: str, image: int | None, compression: str) -> None:
    if kind not in sidecar.KINDS:
        raise UsageError(f"kind must be one of {', '.join(sidecar.KINDS)}, found {kind!r}")
    if image is not None and kind != "mel":
        raise UsageError(f"--image resizes mel spectrograms, and the kind is {kind}", "Leave --image out.")
    if compression not in COMPRESSIONS:
        raise UsageError(f"compression must be one of {', '.join(COMPRESSIONS)}, found {compression!r}")


def _record_bytes(store: Store, recipe: Recipe) -> int:
    spec = store.spec
    values = {
        "mel": recipe.image**2 if recipe.image else spec.n_mels * spec.n_frames(spec.excerpt_samples),
        "wave": spec.wave_samples,
        "features": len(registry.column_names(spec.groups)),
    }[recipe.kind]
    return values * recipe.encoding.itemsize + 100


def _identity(recipe: Recipe, plans: list[ShardPlan], classes: tuple[str, ...], content: str) -> str:
    """Fingerprint of every choice that decides the shards' bytes."""
    names = [p.name for p in plans]
    values = [VERSION, dataclasses.asdict(recipe), names, classes, content]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _prepare(folder: str, identity: str, force: bool) -> bool | Sidecar:
    """Ready the folder. The sidecar where this very export is complete; else whether shards found may be kept."""
    fs, root = files.resolve(folder)
    names = set(files.names(fs, root))
    whole, unfinished = (posixpath.join(root, name) for name in (sidecar.NAME, sidecar.UNFINISHED))
    _require_own(folder, names)
    if sidecar.NAME in names and not force:
        with contextlib.suppress(sidecar.DataMismatch):  # damaged, or of another version: it is written again
            found = Sidecar.read(folder)
            if found.plan == identity and {s.name for s in found.shards} <= names:
                return found
    resumes = sidecar.UNFINISHED in names and fs.cat_file(unfinished).decode() == identity and not force
    if not resumes:
        files.write_bytes(fs, unfinished, b"")  # a folder that is being emptied stays known as ours
    # from here on the folder holds no data set until the new sidecar is written
    files.remove(fs, whole)
    if not resumes:
        for name in filter(OUR_FILES.match, names):
            files.remove(fs, posixpath.join(root, name))
        files.write_bytes(fs, unfinished, identity.encode())
    return resumes


def _require_own(folder: str, names: set[str]) -> None:
    """Raise UsageError for a folder with files but neither a sidecar of ours nor the mark of an interrupted export."""
    fs, root = files.resolve(folder)
    if sidecar.UNFINISHED in names or all(map(files.is_temporary, names)):
        return
    if sidecar.NAME in names and sidecar.FINGERPRINT.encode() in fs.cat_file(posixpath.join(root, sidecar.NAME)):
        return
    raise UsageError(
        f"{folder} holds {len(names)} files, but no data set of ours: an export removes what an earlier one left there",
        "Name another place with --output, or empty the folder yourself.",
    )


def _tasks(store: Store, folder: str, recipe: Recipe, plans: list[ShardPlan], keep: bool) -> list[Task]:
    numbers = sorted({p.task for p in plans})
    own = {n: tuple(p for p in plans if p.task == n) for n in numbers}
    return [Task(store.url, folder, recipe, own[n], f"unfinished-{n:05d}.json", keep) for n in numbers]


def _run(tasks: list[Task], jobs: int) -> list[Done]:
    from joblib import Parallel, delayed

    done: list[Done] = []
    jobs = min(jobs, len(tasks))
    with progress.bar("shards", sum(len(task.plans) for task in tasks)) as bar:
        for result in Parallel(n_jobs=jobs, return_as="generator")(delayed(write_shards)(task) for task in tasks):
            done.append(result)
            bar.advance(len(result.shards))
    return done


def _require_same_snapshot(store: Store, examples: Examples) -> None:
    if store.snapshot().fingerprint != examples.snapshot:
        raise FeatureStoreError(
            f"store {store.url}: its rows changed while they were exported", "Run the export again after the build."
        )


def _finish(folder: str, side: Sidecar, tasks: list[Task]) -> None:
    fs, root = files.resolve(folder)
    files.write_bytes(fs, posixpath.join(root, sidecar.NAME), side.to_json())
    for name in (*(task.receipt for task in tasks), sidecar.UNFINISHED):
        files.remove(fs, posixpath.join(root, name))


def _sidecar(
    store: Store,
    recipe: Recipe,
    plans: list[ShardPlan],
    classes: tuple[str, ...],
    examples: Examples,
    identity: str,
    done: list[Done],
) -> Sidecar:
    moments = Moments.none()
    for part in done:
        moments.merge(part.moments)
    shards = [shard for part in done for shard in part.shards]
    splits = {s: [p for p in plans if p.split == s] for s in schemas.SPLITS}
    labels = {s: np.concatenate([np.zeros(0, np.int64), *(p.labels for p in ps)]) for s, ps in splits.items()}
    return Sidecar(
        **dataclasses.asdict(recipe),
        shape=moments.longest,
        classes=classes,
        counts={s: {g: int((y == i).sum()) for i, g in enumerate(classes)} for s, y in labels.items()},
        tracks={s: _tracks(ps) for s, ps in splits.items()},
        artists=len({int(a) for p in plans for a in p.artists if a >= 0}),
        normalisation=moments.normalisation(),
        columns=examples.columns,
        plan=identity,
        store={"url": store.url, "content": examples.fingerprint},
        spec=store.spec,
        shards=tuple(sorted(shards, key=lambda s: schemas.SPLITS.index(s.split))),
    )


def _tracks(plans: list[ShardPlan]) -> int:
    return len({int(t) for p in plans for t in p.track_ids})


def _table(plans: list[ShardPlan], record_bytes: int, side: Sidecar | None = None) -> pa.Table:
    """One row per split; its size is that of the shards in `side`, else what so many records will take."""
    rows = []
    for split in schemas.SPLITS:
        own = [p for p in plans if p.split == split]
        n = sum(len(p.labels) for p in own)
        size = sum(shard.bytes for shard in side.of_split(split)) if side else n * record_bytes
        rows.append(
            {"split": split, "shards": len(own), "records": n, "tracks": _tracks(own), "MB": round(size / 1e6, 2)}
        )
    return pa.Table.from_pylist(rows)
