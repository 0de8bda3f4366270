"""The lock of a store: who has it, who takes it over, and that nothing is committed without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from featurestore import schemas
from featurestore.__main__ import main
from featurestore.errors import FeatureStoreError, StoreBusy
from featurestore.maintenance import compact, gc
from featurestore.store import files, lock
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.factories import make_store


def test_a_lock_file_of_a_dead_build_is_taken_over(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / lock.LOCK).write_text(json.dumps({"token": "old", "pid": dead.pid, "host": "here"}))
    fs, root = files.resolve(str(tmp_path))
    with lock.hold(fs, root, "build") as held:
        lock.require(fs, root, held.token)
        with pytest.raises(StoreBusy, match="no longer has the lock"):
            lock.require(fs, root, "old")
    assert not (tmp_path / lock.LOCK).exists()


def test_a_pipe_in_the_place_of_the_lock_is_a_message(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / lock.LOCK)
    with (
        pytest.raises(FeatureStoreError, match=r"build.lock: cannot be written \(not a regular file"),
        lock.hold(*files.resolve(str(tmp_path)), "build"),
    ):
        pass


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    url = f"memory://locks/{tmp_path.name}" if request.param == "memory" else str(tmp_path / "store")
    return make_store(url, tracks=12, batch_tracks=4, arrays_too=False)


def test_one_of_two_has_it_and_the_other_is_told_who(store: Store) -> None:
    with lock.hold(store.fs, store.root, "build") as held:
        with pytest.raises(StoreBusy, match=f"held by build: process {os.getpid()}"):
            compact.compact(store.url)
        lock.require(store.fs, store.root, held.token)
    assert not store.fs.exists(store.path(lock.LOCK))


def test_who_lost_the_lock_commits_nothing(store: Store) -> None:
    before = {path: store.fs.cat_file(path) for path in store.fs.find(store.root)}
    tables = {t: store.read_batch(t, "000001-00000") for t in schemas.MEASURED}
    with lock.hold(store.fs, store.root, "build") as held:
        mine = store.locked(held)
        lock.break_lock(store.fs, store.root)
        with lock.hold(store.fs, store.root, "another build"):
            for write in (
                lambda: mine.write_catalog("genres", schemas.GENRES.empty_table()),
                lambda: mine.update_manifest(golden={}),
                lambda: mine.remove_batch("000001-00000"),
                lambda: mine.write_batch("000002-00000", tables),
                lambda: compact.merge(mine, held, 1024),
                lambda: gc.remove_replaced(mine, mine.snapshot(), 0),
                lambda: gc.remove_leftovers(mine),
            ):
                with pytest.raises(StoreBusy, match="nothing was committed"):
                    write()
    assert mine.batches() == ("000001-00000", "000001-00001", "000001-00002")
    gc.gc(store.url, grace_s=0)
    assert {path: store.fs.cat_file(path) for path in store.fs.find(store.root)} == before


def test_the_lock_of_a_dead_builder_on_an_object_store_is_broken_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(f"memory://broken/{tmp_path.name}", tracks=4, arrays_too=False)
    dead = {"token": "gone", "pid": 1, "host": "elsewhere", "purpose": "build", "since": "long ago"}
    store.fs.pipe_file(store.path(lock.LOCK), json.dumps(dead).encode())
    assert cli.run(main, ["gc", "--store", store.url]) == 1
    err = capsys.readouterr().err
    assert "held by build: process 1 on elsewhere, since long ago" in err
    assert "gc --break-lock" in err
    assert cli.run(main, ["gc", "--store", store.url, "--break-lock"]) == 0
    assert cli.run(main, ["gc", "--store", store.url]) == 0


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"pid": null, "host": 3}', b'{"pid": 1e400}', b"\xff"])
def test_a_lock_that_names_nobody_is_somebodys_all_the_same(tmp_path: Path, content: bytes) -> None:
    fs, root = files.resolve(f"memory://odd/{tmp_path.name}")
    fs.pipe_file(f"{root}/{lock.LOCK}", content)
    with pytest.raises(StoreBusy, match="is in use"), lock.hold(fs, root, "build"):
        pass
    (tmp_path / lock.LOCK).write_bytes(content)
    with lock.hold(*files.resolve(str(tmp_path)), "build"):
        pass  # on a disk the system knows that nobody has it


def test_two_that_come_at_once_do_not_both_have_it(tmp_path: Path) -> None:
    fs, root = files.resolve(str(tmp_path / "store"))
    start, done = threading.Barrier(8), threading.Event()
    won: list[str] = []

    def come() -> None:
        start.wait()
        try:
            with lock.hold(fs, root, "build") as held:
                won.append(held.token)
                done.wait(10)
        except StoreBusy:
            pass

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads[:-1]:
        thread.join(0.2)
    done.set()
    for thread in threads:
        thread.join()
    assert len(won) == 1
