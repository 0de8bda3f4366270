"""From the store to TFRecord shards, in bounded memory: a process holds one shard of each split at a time.

Nothing half-written is ever read: a shard gets its name when it is complete, `dataset.json` is written last. A killed
export leaves `unfinished.json`, which names the choices that decide every byte; the same command goes on from there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import warehouse
from featurestore import registry, schemas
from featurestore.errors import MissingInput, UsageError
from featurestore.store import files, places
from featurestore.store.store import OWN_SET, Store, default_scheme
from featurestore.terminal import progress
from training.shards import sidecar
from training.shards.encoding import Encoding
from training.shards.moments import Moments
from training.shards.plan import ShardPlan, classes_of, plan_shards
from training.shards.sidecar import Sidecar
from training.shards.write import Done, Recipe, Task, write_shards

COMPRESSIONS = ("none", "gzip")
SMALL_BYTES = 50_000_000  # of arrays in the store: below this, starting processes costs more than they save
SHARD_NAME = re.compile(r"^(training|validation|test)-\d{5}-of-\d{5}-\d+\.tfrec$")
VERSION = 2  # raised when the same choices would give other bytes


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export did: the sidecar (None for a dry run), one row per split, and how many shards were kept."""

    folder: str
    sidecar: Sidecar | None
    table: pa.Table
    kept: int

    def notes(self) -> list[str]:
        """What a person should know beside the table: where the shards are, what was kept, what is missing."""
        if self.sidecar is None:
            return [f"{self.folder}: nothing was written (dry run)"]
        made = self.sidecar
        kept = f"; {self.kept} of {len(made.shards)} shards were already there" if self.kept else ""
        lines = [f"{self.folder}: {made.kind} as {made.dtype}, {len(made.classes)} genres, {made.scheme} split{kept}"]
        lines += [
            f"the split {s!r} has no records: no model can be trained on this"
            for s in schemas.SPLITS
            if not made.records(s)
        ]
        return lines


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
) -> Exported:
    """Write the shards of one kind to `output`/<kind> (with `image`: `output`/mel-<image>) and their sidecar.

    kind: mel (time first, dB), wave (the stored window, full scale) or features (the columns of `feature_set`).
    dtype None is float16, float32 for features. Splits are the store's. Same store, choices and seed: same bytes,
    whatever `jobs` is. A complete export with the same choices is left alone unless `force`.
    Raises MissingInput (nothing to export, one genre), UsageError (choices that do not fit), FeatureStoreError
    (a place that cannot be written).
    """
    _require_choices(kind, image, compression)
    places.refuse_inside(output, "--output", store.url)
    scheme = scheme or default_scheme(store)
    feature_set_ = feature_set if kind == "features" else None
    encoding = Encoding.of(kind, dtype, store.spec)
    recipe = Recipe(
        kind=kind,
        scheme=scheme,
        subset=subset,
        feature_set=feature_set_,
        encoding=encoding,
        image=image,
        compression=compression,
        seed=seed,
    )
    examples = examples_of(store, kind=kind, scheme=scheme, subset=subset, feature_set=feature_set)
    classes = classes_of(examples)
    size = _record_bytes(store, recipe)
    plans = plan_shards(examples, classes, record_bytes=size, shards=shards, seed=seed)
    folder = posixpath.join(output, f"mel-{image}" if image else kind)
    if dry_run:
        return Exported(folder, None, _planned_table(plans, size), 0)
    content = sidecar.content_fingerprint(store, examples)
    identity = _identity(recipe, plans, classes, content)
    keep = _prepare(folder, identity, force)
    if isinstance(keep, Sidecar):
        return Exported(folder, keep, _table(keep), len(keep.shards))
    numbers = sorted({p.task for p in plans})
    tasks = [Task(store.url, folder, recipe, tuple(p for p in plans if p.task == n), keep) for n in numbers]
    whole = _record_bytes(store, dataclasses.replace(recipe, image=None)) * examples.num_rows
    done = _run(tasks, jobs if whole > SMALL_BYTES else 1)
    made = _sidecar(store, recipe, plans, classes, content, identity, done)
    fs, root = files.resolve(folder)
    files.write_bytes(fs, posixpath.join(root, sidecar.NAME), made.to_json())
    files.remove(fs, posixpath.join(root, sidecar.UNFINISHED))
    return Exported(folder, made, _table(made), sum(d.kept for d in done))


def examples_of(
    store: Store, *, kind: str, scheme: str, subset: str | None = None, feature_set: str | None = None
) -> pa.Table:
    """The labelled examples of a kind: track_id, excerpt, genre, split, artist. Raises MissingInput without any.

    artist is int64; a track whose artist is unknown is an artist of its own (negative), as in warehouse.Matrix.
    """
    if kind == "features":
        examples = _feature_examples(store, scheme, subset, feature_set or OWN_SET)
    else:
        examples = warehouse.examples(store, scheme=scheme, subset=subset, table=kind).select(_COLUMNS)
    examples = examples.filter(pc.and_(pc.is_valid(examples["genre"]), pc.is_valid(examples["split"])))
    if not examples.num_rows:
        raise MissingInput(
            f"store {store.url} has no labelled {kind} rows under the split scheme {scheme!r}",
            "Look with `python -m featurestore status`; build with `python -m featurestore build`.",
        )
    return _with_artist(store, examples)


def _with_artist(store: Store, examples: pa.Table) -> pa.Table:
    tracks = store.read_catalog("tracks", ["track_id", "artist_id"])
    known = dict(zip(tracks["track_id"].to_pylist(), tracks["artist_id"].to_pylist(), strict=True))
    ids = examples["track_id"].to_pylist()
    artists = [-1 - i if known.get(i) is None else known[i] for i in ids]
    return examples.append_column("artist", pa.array(artists, pa.int64()))


def _feature_examples(store: Store, scheme: str, subset: str | None, feature_set: str) -> pa.Table:
    """The examples of a feature set; an imported one has one row per track."""
    parts, missing = [], None
    for split in schemas.SPLITS:
        try:
            m = warehouse.matrix(store, features=feature_set, split=split, scheme=scheme, subset=subset)
        except MissingInput as error:  # this split is empty; all of them would be an error
            missing = error
            continue
        genres = pa.array(list(m.y), pa.string())
        parts.append(pa.table([m.track_ids, m.excerpts, genres, [split] * len(genres)], _COLUMNS))
    if not parts and missing:
        raise missing
    return pa.concat_tables(parts)


_COLUMNS = ["track_id", "excerpt", "genre", "split"]


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
    present_ = set(files.names(fs, root))
    unfinished = posixpath.join(root, sidecar.UNFINISHED)
    if sidecar.NAME in present_ and not force:
        found = Sidecar.read(folder)
        if found.plan == identity and {s.name for s in found.shards} <= present_:
            return found
    resumes = sidecar.UNFINISHED in present_ and fs.cat_file(unfinished).decode() == identity and not force
    # from here on the folder holds no data set until the new sidecar is written
    files.remove(fs, posixpath.join(root, sidecar.NAME))
    if not resumes:
        for name in present_:
            if SHARD_NAME.match(name):
                files.remove(fs, posixpath.join(root, name))
        files.write_bytes(fs, unfinished, identity.encode())
    return resumes


def _run(tasks: list[Task], jobs: int) -> list[Done]:
    from joblib import Parallel, delayed

    done: list[Done] = []
    jobs = min(jobs, len(tasks))
    with progress.bar("shards", sum(len(task.plans) for task in tasks)) as bar:
        for results in Parallel(n_jobs=jobs, return_as="generator")(delayed(write_shards)(task) for task in tasks):
            done += results
            bar.advance(len(results))
    return sorted(done, key=lambda d: schemas.SPLITS.index(d.shard.split))


def _sidecar(
    store: Store,
    recipe: Recipe,
    plans: list[ShardPlan],
    classes: tuple[str, ...],
    content: str,
    identity: str,
    done: list[Done],
) -> Sidecar:
    moments = Moments.none()
    for part in done:
        moments.merge(part.moments)
    columns: tuple[str, ...] = ()
    if recipe.kind == "features":
        columns = tuple(warehouse.matrix(store, features=recipe.feature_set or OWN_SET, scheme=recipe.scheme).columns)
    splits = {s: [p for p in plans if p.split == s] for s in schemas.SPLITS}
    labels = {s: np.concatenate([np.zeros(0, np.int64), *(p.labels for p in ps)]) for s, ps in splits.items()}
    tracks = {s: len({int(t) for p in ps for t in p.track_ids}) for s, ps in splits.items()}
    return Sidecar(
        kind=recipe.kind,
        shape=moments.longest,
        dtype=recipe.encoding.dtype,
        low=recipe.encoding.low,
        high=recipe.encoding.high,
        compression=recipe.compression,
        image=recipe.image,
        classes=classes,
        counts={s: {g: int((y == i).sum()) for i, g in enumerate(classes)} for s, y in labels.items()},
        tracks=tracks,
        normalisation=moments.normalisation(),
        columns=columns,
        scheme=recipe.scheme,
        subset=recipe.subset,
        feature_set=recipe.feature_set,
        seed=recipe.seed,
        plan=identity,
        store={"url": store.url, "content": content},
        spec=store.spec,
        shards=tuple(d.shard for d in done),
    )


def _table(made: Sidecar) -> pa.Table:
    rows = [
        {
            "split": split,
            "shards": len(made.of_split(split)),
            "records": made.records(split),
            "tracks": made.tracks[split],
            "MB": round(sum(s.bytes for s in made.of_split(split)) / 1e6, 2),
        }
        for split in schemas.SPLITS
    ]
    return pa.Table.from_pylist(rows)


def _planned_table(plans: list[ShardPlan], record_bytes: int) -> pa.Table:
    rows = []
    for split in schemas.SPLITS:
        own = [p for p in plans if p.split == split]
        n = sum(len(p.labels) for p in own)
        tracks = len({int(t) for p in own for t in p.track_ids})
        mb = round(n * record_bytes / 1e6, 2)
        rows.append({"split": split, "shards": len(own), "records": n, "tracks": tracks, "MB": mb})
    return pa.Table.from_pylist(rows)
