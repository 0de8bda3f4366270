"""All batches of a build, and which file took a worker down.

Batches run side by side. If a worker ends before it answers (a crash, a file that takes too long, killed for want of
memory), the files of the batches that ran at that moment are measured again one at a time, and a file that ends its
worker even then is a row of `failures`. Where these are many, as on many cores, they first run side by side once more,
one a task. So a worker that was killed by accident costs nothing, and every file is tried three times at most.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Generator, Sequence

from featurestore.build.backends import Lost, Pool
from featurestore.errors import FeatureStoreError
from featurestore.measure.batch import committed, measure_batch
from featurestore.measure.task import Item, Result, Task
from featurestore.store.store import Store

ALONE = 64  # up to so many files are at once measured one at a time


def tasks(task: Task, items: Sequence[Item], size: int) -> list[Task]:
    """Divide files into batches.

    Parameters
    ----------
    task : Task
        What all of them share; its batch is the prefix of their names.
    items : sequence of Item
        The files.
    size : int
        Files in a batch.

    Returns
    -------
    list of Task
        In the order of the files.
    """
    parts = (tuple(items[start : start + size]) for start in range(0, len(items), size))
    return [dataclasses.replace(task, batch=f"{task.batch}-{i:05d}", items=part) for i, part in enumerate(parts)]


def measure(store: Store, todo: Sequence[Task], pool: Pool) -> Generator[Result, None, None]:
    """Run every task, and find the files that take workers down.

    Parameters
    ----------
    store : Store
        Where the batches are committed.
    todo : sequence of Task
        Of one generation, numbered from 0.
    pool : Pool
        What carries them.

    Yields
    ------
    Result
        Of one batch after the other, as they are committed.

    Raises
    ------
    FeatureStoreError
        The store cannot be written, or a worker ends though it opens no file.
    """
    lost = yield from _round(store, todo, pool)
    numbers = itertools.count(len(todo))
    single = [dataclasses.replace(t, batch=_name(t, next(numbers)), items=(i,)) for t, _, _ in lost for i in t.items]
    if len(single) > ALONE:
        single = [task for task, _, _ in (yield from _round(store, single, pool))]
    for task in single:
        for _, how, seconds in (yield from _round(store, [task], pool)):
            known = dataclasses.replace(task, fault=_fault(how, seconds, task.timeout_s))
            if (yield from _round(store, [known], pool)):
                raise FeatureStoreError(
                    f"a worker ended while it was starting or writing batch {task.batch}",
                    "Check memory and disk space; fewer --jobs need less of both. Then run the command again.",
                )


def _name(task: Task, number: int) -> str:
    return f"{task.batch.partition('-')[0]}-{number:05d}"


def _round(store: Store, todo: Sequence[Task], pool: Pool) -> Generator[Result, None, list[tuple[Task, Lost, float]]]:
    """Run tasks once; returns those that were lost, how, and the seconds since the round began."""
    lost, started = [], time.monotonic()
    for n, outcome in pool.run(measure_batch, todo):
        if isinstance(outcome, Lost):
            before = committed(store, todo[n])  # its worker may have ended after the commit
            if before is None:
                lost.append((todo[n], outcome, time.monotonic() - started))
                continue
            outcome = before
        yield outcome
    return lost


def _fault(lost: Lost, seconds: float, timeout_s: float) -> tuple[str, str]:
    """(kind, message) for the row of a file that ended the process which read nothing else."""
    if "SIGALRM" in lost.exit_code or (not lost.exit_code and seconds >= timeout_s):
        return "timeout", f"the process reading it took longer than {timeout_s:g} s"
    if "SIGKILL" in lost.exit_code:
        text = "was killed, most likely by the system for want of memory; --retry with fewer --jobs"
        return "memory", f"the process reading it {text}"
    return "crash", f"the process reading it crashed ({lost.exit_code or 'its worker was lost'})"
