"""Whole archives: resumed, checked, unpacked; and every way in which a host can fail."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from featurestore import __main__ as command
from featurestore.errors import FeatureStoreError, StoreBusy, UsageError
from featurestore.fetch import ARCHIVES, FetchReport
from featurestore.fetch.web import RemoteFile, download
from featurestore.terminal import cli
from tests.fetch.site import clip, ids, left_in, metadata_zip, path_of, small_zip


def sha1_of(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def test_a_whole_archive_is_checked_unpacked_and_not_fetched_again(site, publish, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    report = get("fma_small")
    folder = tmp_path / "fma" / "fma_small"
    assert report == FetchReport(str(folder), len(ids()) + 2, len(ids()) + 2, site.sent)
    assert site.sent == 1 + len(data)  # the first byte is asked for alone, to learn the size
    for i in ids():
        assert (folder / path_of(i)).read_bytes() == clip(i)
    assert left_in(tmp_path / "fma") == sorted(
        ["fma_small/.fetched.json", "fma_small/README.txt", "fma_small/checksums"]
        + [f"fma_small/{path_of(i)}" for i in ids()]
    )
    site.log.clear()
    assert get("fma_small") == FetchReport(str(folder), len(ids()) + 2)
    assert site.log == []
    # a clip that is lost or cut is noticed, and only it is written again
    (folder / path_of(2)).write_bytes(b"short")
    (folder / path_of(1002)).unlink()
    assert get("fma_small").written == 2
    assert (folder / path_of(2)).read_bytes() == clip(2)


def test_a_kept_archive_saves_the_next_download_unless_it_is_damaged(site, publish, get, tmp_path) -> None:
    publish("fma_small", small_zip())
    get("fma_small", keep_archive=True)
    kept = tmp_path / "fma" / "fma_small.zip"
    assert kept.read_bytes() == small_zip()
    site.log.clear()
    for damaged in (False, True):
        (tmp_path / "fma" / "fma_small" / path_of(2)).unlink()
        if damaged:
            kept.write_bytes(kept.read_bytes()[:-1] + b"x")
        assert get("fma_small", keep_archive=True).written == 1
        assert bool(site.log) is damaged
        assert kept.read_bytes() == small_zip()


@pytest.fixture
def remote(site) -> Callable[[], RemoteFile]:
    return functools.partial(RemoteFile, f"{site.url}/fma_small.zip", timeout_s=5.0, retries=2, backoff_s=0.01)


def test_a_cut_connection_costs_one_piece(site, publish, remote, tmp_path, capsys) -> None:
    data = small_zip()
    publish("fma_small", data)
    site.cuts = [None, None, 70_000, 1000]
    assert download(remote, site.url, tmp_path / "x.zip", sha1_of(data), piece=1 << 17) == len(data) + 1
    assert site.sent == 1 + len(data) + 71_000
    assert (tmp_path / "x.zip").read_bytes() == data
    assert "trying again (2 of 2)" in capsys.readouterr().err
    assert left_in(tmp_path) == ["x.zip"]


def test_the_next_run_goes_on_where_a_failed_one_stopped(site, publish, remote, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    target = tmp_path / "fma" / "fma_small.zip"
    site.cuts = [None, None, 0, 0, 0]
    with pytest.raises(FeatureStoreError, match="same command goes on"):
        download(remote, site.url, target, sha1_of(data), piece=1 << 17)
    assert left_in(tmp_path) == ["fma/fma_small.zip.part"]
    site.log.clear()
    assert get("fma_small").received == site.sent == 1 + len(data) - (1 << 17)


def test_a_file_that_changed_on_the_host_is_fetched_again_from_its_beginning(site, publish, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    part = tmp_path / "fma" / "fma_small.zip.part"
    part.parent.mkdir()
    for earlier in (bytes(70_000), bytes(len(data) + 5)):
        part.write_bytes(earlier)
        with pytest.raises(FeatureStoreError, match=r"hash .* does not match .*\n.*Run the command again"):
            get("fma_small")
        assert left_in(tmp_path) == []
    assert get("fma_small").received == 1 + len(data)


def test_a_part_that_was_complete_when_the_power_went_is_only_checked(publish, get, tmp_path) -> None:
    publish("fma_small", small_zip())
    (tmp_path / "fma").mkdir()
    (tmp_path / "fma" / "fma_small.zip.part").write_bytes(small_zip())
    assert get("fma_small").received == 1


def test_a_host_without_ranges_sends_the_whole_file(site, publish, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    part = tmp_path / "fma" / "fma_small.zip.part"
    part.parent.mkdir()
    part.write_bytes(b"from a host with ranges")
    site.ranges = False
    site.cuts = [None, 70_000]
    with pytest.raises(FeatureStoreError, match="IncompleteRead"):
        get("fma_small")
    assert get("fma_small").received == len(data)
    assert part.read_bytes() == b"from a host with ranges"  # a host that refuses once may serve ranges again


def test_a_wrong_hash_is_refused_and_leaves_nothing(site, publish, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data, sha1="ab" * 20)
    found = sha1_of(data)
    with pytest.raises(FeatureStoreError, match=f"expected sha1:{'ab' * 20} but got {found}"):
        get("fma_small")
    assert left_in(tmp_path / "fma") == []


def test_a_host_that_does_not_answer_is_given_up(publish, get, tmp_path) -> None:
    publish("fma_small", small_zip())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(FeatureStoreError, match=r"Read timed out.*0\.1"):
            get("fma_small", base_url=url, timeout_s=0.1, retries=1)
    with pytest.raises(FeatureStoreError, match=r"Connection refused"):  # nobody listens any more
        get("fma_small", base_url=url, retries=0)
    assert left_in(tmp_path / "fma") == []


def test_a_host_that_falls_silent_is_given_up(site, publish, get) -> None:
    publish("fma_small", small_zip())
    site.drip_s = 1.0
    with pytest.raises(FeatureStoreError, match="Read timed out"):
        get("fma_small", timeout_s=0.2, retries=0)


def test_answers_that_are_not_the_file(site, publish, get, tmp_path) -> None:
    with pytest.raises(FeatureStoreError, match=r"404 Client Error.*\n.*--base-url"):
        get("fma_large")
    publish("fma_small", small_zip())
    site.statuses = [503, 429]
    assert get("fma_small").written == len(ids()) + 2  # overloaded hosts are asked again
    publish("fma_medium", small_zip())
    site.statuses = [503] * 9
    with pytest.raises(FeatureStoreError, match="503 Server Error"):
        get("fma_medium")
    assert len(site.statuses) == 9 - 3
    with pytest.raises(FeatureStoreError, match=r"No connection adapters.*\n.*--base-url"):
        get("fma_medium", base_url="ftp://127.0.0.1/fma")
    assert not (tmp_path / "fma" / "fma_medium").exists()


def test_a_redirect_is_followed(site, publish, get) -> None:
    publish("fma_metadata", metadata_zip())
    moved = site.url.replace("/fma", "/moved")
    assert get("fma_metadata", base_url=moved).written == 2


def test_a_full_disk_is_a_message_before_and_while_writing(site, publish, get, tmp_path, monkeypatch) -> None:
    data = small_zip()
    publish("fma_small", data)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 10})())
        with pytest.raises(FeatureStoreError, match=r"GB are needed, 0\.00 GB are free"):
            get("fma_small")
    assert left_in(tmp_path / "fma") == []
    # a real limit on the size of files, in a process of its own
    script = (
        "import resource, sys\n"
        "from featurestore import fetch\n"
        "from featurestore.terminal import cli\n"
        f"fetch.ARCHIVES['fma_small'] = fetch.Archive({ARCHIVES['fma_small'].sha1!r}, {len(data)}, 'small')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        f"sys.exit(cli.run(lambda _: fetch.fetch('fma_small', output={str(tmp_path / 'fma')!r}, "
        f"base_url={site.url!r}) and 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "fma_small: cannot be read or written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    site.log.clear()
    assert get("fma_small").received == 1 + len(data) - 65536  # what arrived was kept


def test_two_downloads_to_one_place(publish, get, tmp_path) -> None:
    publish("fma_small", small_zip())
    (tmp_path / "fma").mkdir()
    with (tmp_path / "fma" / "fma_small.zip.part").open("a+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreBusy, match="another process is downloading"):
            get("fma_small")


def test_a_place_that_cannot_be_written_is_a_message(publish, get, tmp_path) -> None:
    publish("fma_small", small_zip())
    (tmp_path / "fma" / "fma_small.zip").mkdir(parents=True)
    with pytest.raises(FeatureStoreError, match=r"fma_small\.zip: cannot be read or written \(Is a directory\)"):
        get("fma_small")
    (tmp_path / "taken").write_text("")
    with pytest.raises(FeatureStoreError, match="cannot be read or written"):
        get("fma_small", output=str(tmp_path / "taken"))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fma_tiny", {}, "no archive 'fma_tiny'"),
        ("fma_metadata", {"per_genre": 5}, "an archive with clips"),
        ("fma_small", {"per_genre": 0}, "expected at least 1"),
        ("fma_small", {"output": "memory://x"}, "a folder on this machine"),
    ],
)
def test_arguments_are_checked(get, name, changes, message) -> None:
    with pytest.raises(UsageError, match=message):
        get(name, **changes)


def test_the_command_prints_the_next_command(site, publish, tmp_path, capsys) -> None:
    publish("fma_metadata", metadata_zip())
    publish("fma_small", small_zip())
    place = str(tmp_path / "fma")
    common = ["--output", place, "--base-url", site.url, "--retries", "0"]
    assert cli.run(command.main, ["fetch", "fma_small", "--per-genre", "2", *common]) == 1
    assert "fetch fma_metadata" in capsys.readouterr().err
    assert cli.run(command.main, ["fetch", "fma_metadata", *common]) == 0
    assert (
        f"next: python -m featurestore catalog --dataset fma --metadata {place}/fma_metadata" in capsys.readouterr().out
    )
    assert cli.run(command.main, ["fetch", "fma_small", "--per-genre", "2", "--dry-run", *common]) == 0
    assert "0 files in place; about 0.2 MB" in capsys.readouterr().out
    assert cli.run(command.main, ["fetch", "fma_small", "--per-genre", "2", "--seed", "3", *common]) == 0
    out = capsys.readouterr().out
    assert "4 files in place, 4 of them new" in out
    expected = f"build --dataset fma --audio {place}/fma_small --metadata {place}/fma_metadata"
    assert f"next: python -m featurestore {expected}" in out
