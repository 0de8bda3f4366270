"""Stores and shards on an object store: the same behaviour over HTTP, also when requests fail, hang or are cut."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from featurestore import schemas
from featurestore.__main__ import main
from featurestore.build.build import BuildReport
from featurestore.errors import FeatureStoreError, StoreBusy
from featurestore.maintenance.compact import compact
from featurestore.maintenance.gc import gc
from featurestore.maintenance.verify import verify
from featurestore.store import files, lock
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests import builds
from tests.builds import SPEC, content, differing, render_clips
from tests.object_server import Fault, Proxy, served

pytest.importorskip("s3fs")
pytest.importorskip("moto")
BUCKET = "music"
ALWAYS = 10_000


@pytest.fixture(scope="module")
def s3() -> Iterator[Proxy]:
    import boto3
    import s3fs

    with pytest.MonkeyPatch.context() as patch, served() as proxy:
        for name, value in (
            ("AWS_ENDPOINT_URL", proxy.url),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            # a client that gives up soon, so that these tests do
            ("AWS_MAX_ATTEMPTS", "2"),
            ("FSSPEC_S3", json.dumps({"config_kwargs": {"read_timeout": 2}})),
        ):
            patch.setenv(name, value)
        import fsspec.config

        patch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 2}})
        patch.setattr(s3fs.S3FileSystem, "retries", 2)
        s3fs.S3FileSystem.clear_instance_cache()
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield proxy
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def url(s3: Proxy) -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_clips(tmp_path_factory.mktemp("audio"), tracks=4)  # two batches


@pytest.fixture(scope="module")
def local(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("local") / "store"
    run_build(store, clips)
    return store


@pytest.fixture(scope="module")
def built(s3: Proxy, clips: Path) -> str:
    """A store on the object store, made from audio that lies there too."""
    fs, _ = files.resolve(f"s3://{BUCKET}")
    for path in clips.rglob("*.*"):
        fs.put_file(str(path), f"{BUCKET}/audio/{path.relative_to(clips)}")
    s3.log.clear()
    run_build(f"s3://{BUCKET}/built", f"s3://{BUCKET}/audio")
    return f"s3://{BUCKET}/built"


def run_build(store: str | Path, audio: str | Path, **options: object) -> BuildReport:
    """`builds.run_build` with one worker: what is tested is who it talks to."""
    return builds.run_build(store, audio, **{"jobs": 1, **options})  # type: ignore[arg-type]


def unlike(url: str, local: Path) -> list[str]:
    return differing(content(url), content(local))


def test_everything_works_on_it(s3: Proxy, built: str, local: Path) -> None:
    import warehouse

    assert unlike(built, local) == []
    puts = [path.partition(f"/{BUCKET}/built/")[2] for method, path in s3.log if method == "PUT"]
    for batch in Store.open(built).batches():
        written = [p.partition("/")[0] for p in puts if p.partition("?")[0].endswith(f"/{batch}.parquet")]
        assert written == list(schemas.MEASURED), "excerpts commits the batch, so it is put last"
    sql = "SELECT genre, count(*) AS n, max(len(mel_db(mel))) AS size FROM mel JOIN tracks USING (track_id) GROUP BY 1"
    rows = [{"genre": "jazz", "n": 24, "size": 112}, {"genre": "rock", "n": 24, "size": 112}]
    assert sorted(warehouse.query(built, sql).to_pylist(), key=lambda r: r["genre"]) == rows
    assert verify(built).damages == ()
    assert run_build(built, f"s3://{BUCKET}/audio").todo == 0
    assert compact(built).merged == 2
    assert unlike(built, local) == []
    assert gc(built, grace_s=0).batches == 2
    assert len(Store.open(built).batches()) == 1
    assert verify(built).damages == ()
    assert unlike(built, local) == []


def test_faults_that_pass_are_not_noticed(s3: Proxy, url: str, clips: Path, local: Path) -> None:
    faults = (
        Fault("PUT", "build.lock", "lose"),  # the lock is ours, though the second attempt is told it is taken
        Fault("PUT", "/excerpts/", "503"),
        Fault("PUT", "/features/", "500"),
        Fault("PUT", "/mel/", "cut"),
        Fault("PUT", "/wave/", "slow", seconds=3),  # longer than the client waits
        Fault("PUT", "/failures/", "lose"),
        Fault("GET", "store.json", "half"),
        Fault("GET", "/excerpts/", "cut"),
    )
    with s3.failing(*faults):
        assert run_build(url, clips).decoded == 4
    assert [f for f in faults if not f.met] == []
    assert unlike(url, local) == []
    assert verify(url).damages == ()


def test_a_put_that_fails_leaves_no_half_batch(s3: Proxy, url: str, clips: Path, local: Path) -> None:
    with (
        s3.failing(Fault("PUT", "/excerpts/", "500", ALWAYS)),
        pytest.raises(FeatureStoreError, match=r"excerpts/.* cannot be written .*(?s:.)*nothing already stored"),
    ):
        run_build(url, clips)
    store = Store.open(url)
    assert store.batches() == ()
    assert store.leftovers() != []
    assert not store.fs.exists(store.path(lock.LOCK))
    assert run_build(url, clips).decoded == 4
    assert Store.open(url).leftovers() == []
    assert unlike(url, local) == []


def test_a_refused_request_has_a_message(
    s3: Proxy, built: str, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for action, what in (("403", "AccessDenied|Forbidden|denied|injected"), ("cut", "cannot be used|onnection")):
        with s3.failing(Fault("GET", "store.json", action, ALWAYS)):
            assert cli.run(main, ["status", "--store", built]) == 1
        text = capsys.readouterr().err
        assert text.startswith("error: ")
        assert "Traceback" not in text
        assert pytest.importorskip("re").search(what, text), text
    command = ["build", "--dataset", "folders", "--audio", str(clips), "--store", "s3://no-such-bucket/store"]
    assert cli.run(main, command) == 1
    assert "no-such-bucket/store/build.lock: cannot be written" in capsys.readouterr().err


def test_audio_that_cannot_be_read_is_a_failure_and_is_tried_again(
    s3: Proxy, url: str, built: str, local: Path
) -> None:
    audio = f"s3://{BUCKET}/audio"
    with s3.failing(Fault("GET", "clip01", "half", ALWAYS), Fault("GET", "clip02", "half")):
        report = run_build(url, audio)
    assert (report.decoded, report.failures) == (3, {"unreadable": 1})
    assert run_build(url, audio).decoded == 1
    assert unlike(url, local) == []


def test_a_second_build_says_who_holds_the_store(s3: Proxy, url: str, clips: Path) -> None:
    fs, root = files.resolve(url)
    with (
        lock.hold(fs, root, "build of folders"),
        pytest.raises(StoreBusy, match=r"in use \(held by build of folders: process \d+ on "),
    ):
        run_build(url, clips)
    assert not fs.exists(f"{root}/{lock.LOCK}")


def test_one_of_two_builders_that_come_at_once_has_the_lock(s3: Proxy, url: str) -> None:
    fs, root = files.resolve(url)
    start, done = threading.Barrier(6), threading.Event()
    won, refused = [], []

    def come() -> None:
        start.wait()
        try:
            with lock.hold(fs, root, "build") as held:
                won.append(held)
                done.wait(30)
        except StoreBusy as error:
            refused.append(error.message)
            if len(refused) == 5:
                done.set()

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 5)


def test_the_lock_of_a_builder_that_is_gone_is_broken_by_name_and_who_lost_it_commits_nothing(
    s3: Proxy, url: str, clips: Path
) -> None:
    assert run_build(url, clips, limit=1).decoded == 1
    store = Store.open(url)
    with lock.hold(store.fs, store.root, "build of a machine that is gone") as lost:
        with pytest.raises(StoreBusy, match=r"(?s)held by build of a machine that is gone.*gc --break-lock"):
            run_build(url, clips)
        gc(url, break_lock=True)
        with pytest.raises(StoreBusy, match="nothing was committed"):
            store.locked(lost).write_catalog("genres", schemas.GENRES.empty_table())
        assert run_build(url, clips).decoded == 3
    assert verify(url).damages == ()


def test_a_reader_sees_what_another_process_commits(s3: Proxy, url: str) -> None:
    reader = Store.create(url, SPEC)
    assert reader.batches() == ()
    assert reader.read_catalog("tracks").num_rows == 0
    writer = files.resolve(url)[0].__class__(skip_instance_cache=True)
    tables = {name: schemas.measured_schema(name, SPEC).empty_table() for name in schemas.MEASURED}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, tables["excerpts"].schema):
        pass
    writer.pipe_file(reader.batch_path("excerpts", "000001-00000"), sink.getvalue().to_pybytes())
    assert reader.batches() == ("000001-00000",)


@pytest.mark.slow
def test_other_processes_reach_it_too(s3: Proxy, url: str, clips: Path, local: Path) -> None:
    assert Store.create(url, SPEC).batches() == ()  # the client's thread runs before processes are made
    assert run_build(url, clips, backend="loky", jobs=2).decoded == 4
    assert unlike(url, local) == []


# ---------------------------------------------------------------- shards


def test_shards_are_the_same_bytes_and_an_export_that_failed_goes_on(
    s3: Proxy, url: str, local: Path, tmp_path: Path
) -> None:
    from training.shards.export import export
    from training.shards.sidecar import NAME

    options: dict[str, object] = {"kind": "mel", "shards": 2, "scheme": "random"}
    export(Store.open(str(local)), output=str(tmp_path), **options)  # type: ignore[arg-type]
    store = Store.open(str(local))
    with (
        s3.failing(Fault("PUT", "training-00001", "500", ALWAYS), Fault("PUT", "training-00000", "cut")),
        pytest.raises(FeatureStoreError, match=r"training-00001.* cannot be written"),
    ):
        export(store, output=url, **options)  # type: ignore[arg-type]
    fs, root = files.resolve(url)
    assert not fs.exists(f"{root}/mel/{NAME}"), "a folder without the sidecar is no data set"
    export(store, output=url, **options)  # type: ignore[arg-type]
    made = {p.name: p.read_bytes() for p in (tmp_path / "mel").iterdir()}
    assert {name: fs.cat_file(f"{root}/mel/{name}") for name in files.names(fs, f"{root}/mel")} == made
