"""Whole archives: resumed, checked, unpacked; and every way in which a host can fail."""

from __future__ import annotations

import fcntl
import hashlib
import socket
import subprocess
import sys

import pytest

from featurestore import __main__ as command
from featurestore.errors import FeatureStoreError, StoreBusy, UsageError
from featurestore.fetch import ARCHIVES, FetchReport
from featurestore.terminal import cli
from tests.fetch.site import clip, ids, left_in, metadata_zip, path_of, small_zip


def test_a_whole_archive_is_checked_unpacked_and_not_fetched_again(site, publish, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    report = get("fma_small")
    folder = tmp_path / "fma" / "fma_small"
    assert report == FetchReport("fma_small", str(folder), len(ids()) + 2, len(ids()) + 2, len(data))
    for i in ids():
        assert (folder / path_of(i)).read_bytes() == clip(i)
    assert left_in(tmp_path / "fma") == sorted(
        ["fma_small/.fetched.json", "fma_small/README.txt", "fma_small/checksums"]
        + [f"fma_small/{path_of(i)}" for i in ids()]
    )
    again = get("fma_small")
    assert (again.files, again.written, again.received) == (len(ids()) + 2, 0, 0)
    assert len(site.log) == 1
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
    (tmp_path / "fma" / "fma_small" / path_of(2)).unlink()
    assert get("fma_small", keep_archive=True).written == 1
    assert len(site.log) == 1
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    (tmp_path / "fma" / "fma_small" / path_of(2)).unlink()
    with pytest.raises(FeatureStoreError, match=r"fma_small\.zip: its SHA-1 is .*\n.*remove it"):
        get("fma_small")
    assert kept.exists()  # it is the user's to remove


def test_a_cut_connection_resumes_and_sends_no_byte_twice(site, publish, get, capsys) -> None:
    data = small_zip()
    publish("fma_small", data)
    half = len(data) // 2
    site.cuts = [half, 1000]
    report = get("fma_small")
    assert report.received == site.sent == len(data)
    assert [(entry[1], entry[2]) for entry in site.log] == [
        ("", ""),
        (f"bytes={half}-", '"v1"'),
        (f"bytes={half + 1000}-", '"v1"'),
    ]
    assert "trying again (1 of 2)" in capsys.readouterr().err


def test_the_next_run_goes_on_where_a_failed_one_stopped(site, publish, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    site.cuts = [70_000]
    with pytest.raises(FeatureStoreError, match=r"\(1 tries\)"):
        get("fma_small", retries=0)
    assert left_in(tmp_path / "fma") == ["fma_small.zip.part", "fma_small.zip.part.version"]
    site.log.clear()
    assert get("fma_small").received == site.sent == len(data) - 70_000


def test_a_file_that_changed_on_the_host_is_fetched_from_its_beginning(site, publish, get) -> None:
    publish("fma_small", small_zip(checksum_of={2: "0" * 40}))
    site.cuts = [70_000]
    with pytest.raises(FeatureStoreError):
        get("fma_small", retries=0)
    data = small_zip()
    publish("fma_small", data)
    site.etag = '"v2"'
    assert get("fma_small").received == len(data)


def test_resuming_at_a_host_without_ranges_starts_over(site, publish, get) -> None:
    data = small_zip()
    publish("fma_small", data)
    site.ranges = False
    site.cuts = [70_000]
    assert get("fma_small").received == site.sent == len(data) + 70_000


def test_a_part_that_is_longer_than_the_file_is_dropped(publish, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data)
    (tmp_path / "fma").mkdir()
    part = tmp_path / "fma" / "fma_small.zip.part"
    part.write_bytes(bytes(len(data) + 5))
    assert get("fma_small").received == len(data)
    # and one that was complete when the power went is only checked
    part.write_bytes(data)
    (tmp_path / "fma" / "fma_small" / ".fetched.json").unlink()
    assert get("fma_small").received == 0


def test_a_wrong_hash_is_refused_and_leaves_nothing(site, publish, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data, sha1="ab" * 20)
    found = hashlib.sha1(data).hexdigest()
    with pytest.raises(FeatureStoreError, match=f"its SHA-1 is {found}, expected {'ab' * 20}"):
        get("fma_small")
    assert left_in(tmp_path / "fma") == []


def test_a_host_that_does_not_answer_is_given_up(publish, get, tmp_path) -> None:
    publish("fma_small", small_zip())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(FeatureStoreError, match=r"no answer within 0\.1 s \(2 tries\)"):
            get("fma_small", base_url=url, timeout_s=0.1, retries=1)
    with pytest.raises(FeatureStoreError, match=r"the connection failed \(.*refused"):  # nobody listens any more
        get("fma_small", base_url=url, retries=0)
    assert left_in(tmp_path / "fma") == []


def test_a_host_that_only_drips_is_given_up(site, publish, get) -> None:
    publish("fma_small", small_zip())
    site.drip_s = 0.02
    with pytest.raises(FeatureStoreError, match=r"the host sent \d+ bytes in"):
        get("fma_small", timeout_s=0.2, retries=0)


def test_answers_that_are_not_the_file(site, publish, get, tmp_path) -> None:
    with pytest.raises(FeatureStoreError, match=r"404 Not Found.*\n.*--base-url"):
        get("fma_large")
    publish("fma_small", small_zip())
    site.statuses = [503, 429]
    assert get("fma_small").written == len(ids()) + 2  # overloaded hosts are asked again
    publish("fma_medium", small_zip())
    site.statuses = [503] * 9
    with pytest.raises(FeatureStoreError, match=r"503 Service Unavailable \(3 tries\)"):
        get("fma_medium")
    with pytest.raises(FeatureStoreError, match="http or https"):
        get("fma_medium", base_url="ftp://127.0.0.1/fma")
    assert not (tmp_path / "fma" / "fma_medium").exists()


def test_a_redirect_is_followed(site, publish, get) -> None:
    publish("fma_metadata", metadata_zip())
    moved = site.url.replace("/fma", "/moved")
    assert get("fma_metadata", base_url=moved).written == 2


def test_a_file_much_larger_than_published_is_refused_before_it_fills_the_disk(site, publish, get, tmp_path) -> None:
    data = small_zip()
    publish("fma_small", data, size=len(data) // 2)
    with pytest.raises(FeatureStoreError, match=f"announces {len(data)} bytes"):
        get("fma_small")
    assert left_in(tmp_path / "fma") == []


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
    assert "fma_small.zip.part: cannot be read or written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    site.log.clear()
    assert get("fma_small").received == len(data) - 65536  # what arrived was kept


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
        ("fma_small", {"timeout_s": float("nan")}, "time-out above 0 s"),
        ("fma_small", {"retries": -1}, "retries from 0"),
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
    assert "0 files in place; about 0.0" in capsys.readouterr().out
    assert cli.run(command.main, ["fetch", "fma_small", "--per-genre", "2", "--seed", "3", *common]) == 0
    out = capsys.readouterr().out
    assert "4 files in place, 4 of them new" in out
    expected = f"build --dataset fma --audio {place}/fma_small --metadata {place}/fma_metadata"
    assert f"next: python -m featurestore {expected}" in out
