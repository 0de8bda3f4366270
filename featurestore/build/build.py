"""The build: catalog a collection, then measure what the store does not have yet.

The driver plans, hands out batches and keeps score. Workers read the audio and write the batches themselves, so no
audio and no value passes through here.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow.compute as pc

from featurestore import datasets
from featurestore.build import backends, batches, resume
from featurestore.catalog import merge
from featurestore.datasets import Collection
from featurestore.errors import FeatureStoreError, MissingStore
from featurestore.maintenance import compact, gc
from featurestore.measure import golden
from featurestore.measure.task import Result, Task
from featurestore.spec import Spec
from featurestore.store import files, lock, places, touched
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import Store
from featurestore.terminal import progress

EXCERPTS_PER_BATCH = 24
BATCH_BYTES = 64e6  # long excerpts make smaller batches: a worker holds a whole one
TIMEOUT_S = 300.0  # for one file, plus as long as its excerpts sound: 30 s of them take well under a second
LOCAL = "loky"
DATASET_SPECS: dict[str, dict[str, Any]] = {"demo": {"excerpts": 3, "excerpt_seconds": 10.0}}


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes
    ----------
    store, dataset : str
        Where, and of which collection.
    tracks : int
        Tracks of the collection with an audio file.
    already : int
        Of these, measured before.
    todo : int
        Files that this build looked at, or would look at.
    decoded, excerpts : int
        Tracks measured now, and their rows in `excerpts`.
    unchanged : int
        Files with a new date and the recorded content, not decoded again.
    failed : int
        Files that failed now.
    failures : mapping of str to int
        {kind: tracks} of the collection's current failures, old ones included.
    seconds : float
        Wall-clock time.
    dry_run : bool
        Whether nothing was written.
    warnings : tuple of str
        Of the collection, and of what happened after the last batch.
    """

    store: str
    dataset: str
    tracks: int
    already: int
    todo: int
    decoded: int = 0
    excerpts: int = 0
    unchanged: int = 0
    failed: int = 0
    failures: Mapping[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    dry_run: bool = False
    warnings: tuple[str, ...] = ()


def build(
    store_url: str,
    *,
    dataset: str,
    audio: str | None = None,
    metadata: str | None = None,
    subset: str | None = None,
    spec: Spec | Mapping[str, Any] | None = None,
    jobs: int = 1,
    backend: str = LOCAL,
    scheduler: str | None = None,
    force: bool = False,
    retry: bool = False,
    timeout_s: float | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> BuildReport:
    """Catalog a collection and measure the tracks that the store lacks.

    Files that fail do not raise: they are rows of `failures`.

    Parameters
    ----------
    store_url : str
        Path or fsspec URL of the store, which is made where there is none.
    dataset, audio, metadata, subset : str, str or None
        The collection: see `datasets.load`.
    spec : Spec or mapping, optional
        A Spec, or only the numbers that are asked for: the others are the store's, else the defaults.
    jobs : int
        Files that are measured at once on this machine.
    backend : str
        "loky" for processes of this machine, "dask" for a cluster.
    scheduler : str, optional
        Address of the Dask scheduler.
    force : bool
        Measure every track again.
    retry : bool
        Measure the known failures again, though their files are the same.
    timeout_s : float, optional
        Seconds that one file may take; by default 300, plus as long as its excerpts sound.
    limit : int, optional
        Measure at most this many tracks.
    dry_run : bool
        Report what would be done, and write nothing.

    Returns
    -------
    BuildReport

    Raises
    ------
    UsageError, MissingInput
        The options contradict each other; the collection is not there.
    SpecMismatch
        The store was made with another spec, or the libraries here measure other values.
    StoreBusy
        Another command writes to the store.
    FeatureStoreError
        The store cannot be written, or no worker stays alive.

    Examples
    --------
    >>> from featurestore.build.build import build
    >>> report = build("data/store", dataset="folders", audio="music", jobs=4)  # doctest: +SKIP
    >>> report.decoded, report.failures  # doctest: +SKIP
    (1000, {'truncated': 2})
    """
    started = time.monotonic()
    backends.require(backend, scheduler)
    places.refuse_inside(audio, "--audio", store_url)
    places.refuse_inside(metadata, "--metadata", store_url)
    open_pool = functools.partial(backends.open_pool, backend, jobs, scheduler)
    collection = datasets.load(dataset, audio=audio, metadata=metadata, subset=subset)
    options = {"force": force, "retry": retry, "limit": limit}
    if dry_run:
        store = _existing(store_url)
        settle_spec(store, spec, dataset)
        plan = resume.plan(store, collection, **options)  # type: ignore[arg-type]
        return _report(store_url, collection, plan, started, dry_run=True)
    settle_spec(_existing(store_url), spec, dataset)  # what is refused leaves no trace
    fs, root = files.resolve(store_url)
    with lock.hold(fs, root, f"build of {dataset}") as held:
        store = Store.open_or_create(store_url, settle_spec(_existing(store_url), spec, dataset)).locked(held)
        gc.remove_leftovers(store)
        seen = store.snapshot()  # once: it opens every batch
        warnings = merge.update(store, collection, seen).warnings
        plan = resume.plan(store, collection, seen, **options)  # type: ignore[arg-type]
        counts = Result()
        if plan.items:
            counts = _measure(store, plan, held, open_pool, timeout_s, force)
            merge.redraw_splits(store)  # they know the content of the files now
            warnings += compact.tidy(store, held)
            seen = store.snapshot()
        elif compact.is_untidy(store, seen):
            warnings += compact.tidy(store, held)
        return _report(store_url, collection, plan, started, counts, _failures(store, collection, seen), warnings)


def settle_spec(store: Store | None, spec: Spec | Mapping[str, Any] | None, dataset: str) -> Spec:
    """The spec in force: the numbers asked for, on top of the store's, else of the dataset's defaults.

    Parameters
    ----------
    store : Store or None
        None where there is none yet.
    spec : Spec, mapping or None
        What is asked for.
    dataset : str
        Kind of collection.

    Returns
    -------
    Spec

    Raises
    ------
    SpecMismatch
        The store has measured rows and a number asked for differs; the message names it.

    Examples
    --------
    >>> settle_spec(None, {"n_mels": 64}, "demo").excerpts
    3
    """
    base = store.spec if store and store.batches() else Spec(**DATASET_SPECS.get(dataset, {}))
    wanted = spec if isinstance(spec, Spec) else dataclasses.replace(base, **(spec or {}))
    if store and store.batches():
        store.spec.require(wanted, here=f"store {store.url}", there="this command")
    return wanted


def tracks_per_batch(spec: Spec) -> int:
    """How many whole tracks make a batch: about 24 excerpts, fewer where they are long.

    Parameters
    ----------
    spec : Spec
        How many excerpts a track has, and how long they are.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> tracks_per_batch(Spec())
    24
    """
    excerpt = 4 * spec.n_mels * spec.n_frames(spec.excerpt_samples) + 2 * spec.wave_samples
    return max(1, int(min(EXCERPTS_PER_BATCH, BATCH_BYTES // excerpt)) // spec.excerpts)


def _existing(url: str) -> Store | None:
    try:
        return Store.open(url)
    except MissingStore:
        return None


def _measure(
    store: Store,
    plan: resume.Plan,
    held: lock.Lock,
    open_pool: Callable[[Task], contextlib.AbstractContextManager[backends.Pool]],
    timeout_s: float | None,
    force: bool,
) -> Result:
    """Measure what the plan names, batch by batch; returns the sum."""
    spec, generation = store.spec, f"{store.next_generation():06d}"
    timeout_s = timeout_s or TIMEOUT_S + spec.excerpts * spec.excerpt_seconds
    url = store.root if files.is_local(store.fs) else store.url  # a worker may run in another folder
    shared = Task(url, generation, held.token, (), timeout_s)
    todo = batches.tasks(shared, plan.items, tracks_per_batch(spec))
    total = Result()
    try:
        with progress.bar("measuring tracks", len(plan.items)) as bar, open_pool(todo[0]) as pool:
            _settle_golden(store, generation, pool, force)
            with contextlib.closing(batches.measure(store, todo, pool)) as results:
                for result in results:
                    total += result
                    bar.advance(result.files, failed=result.failed)
    finally:
        touched.remember(store, total.unchanged)
    return total


def _settle_golden(store: Store, generation: str, pool: backends.Pool, force: bool) -> None:
    """Compare what the libraries measure now with what they measured when the store was begun."""
    now = _golden(store, pool)
    before = store.manifest.get("golden")
    if before is None:
        store.update_manifest(golden=now)
    elif force and golden.differences(before, now):
        # rows of earlier generations count as not measured from here on, also if this build is cut short
        store.update_manifest(golden=now, values_since=generation)
    else:
        golden.require(before, now, store.url)


def _golden(store: Store, pool: backends.Pool) -> dict[str, Any]:
    """The golden record, measured by a worker; this compiles the kernels where no machine code is kept yet."""
    for _ in range(2):  # a process may be killed by accident
        ((_, record),) = pool.run(golden.measure, [store.spec])
        if not isinstance(record, backends.Lost):
            return dict(record)
    raise FeatureStoreError(
        f"the first worker ended before it measured anything ({record.exit_code or 'with its machine'})",
        "Check the installation and memory; fewer --jobs need less. Then run the command again.",
    )


def _failures(store: Store, collection: Collection, seen: Snapshot) -> dict[str, int]:
    """{kind: tracks} of the current failures among the collection's tracks."""
    rows = store.read_current("failures", ["track_id", "kind"], seen)
    mine = rows.filter(pc.is_in(rows["track_id"], collection.tracks["track_id"].combine_chunks()))
    return dict(sorted(collections.Counter(mine["kind"].to_pylist()).items()))


def _report(
    url: str,
    collection: Collection,
    plan: resume.Plan,
    started: float,
    counts: Result | None = None,
    failures: Mapping[str, int] | None = None,
    warnings: tuple[str, ...] = (),
    dry_run: bool = False,
) -> BuildReport:
    counts = counts or Result()
    return BuildReport(
        store=url,
        dataset=collection.name,
        tracks=plan.tracks,
        already=plan.done,
        todo=len(plan.items),
        decoded=counts.tracks,
        excerpts=counts.excerpts,
        unchanged=len(counts.unchanged),
        failed=counts.failed,
        failures=failures or {},
        seconds=time.monotonic() - started,
        dry_run=dry_run,
        warnings=warnings or collection.warnings,
    )
