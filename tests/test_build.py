"""The build and its resume rule, on real files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from featurestore.__main__ import main
from featurestore.build.build import BATCH_BYTES, settle_spec, tracks_per_batch
from featurestore.errors import AudioError, SpecMismatch, UsageError
from featurestore.maintenance import compact, gc
from featurestore.measure import golden
from featurestore.measure.file import measure_file
from featurestore.spec import Spec
from featurestore.store.snapshot import Snapshot
from featurestore.store.store import Store
from featurestore.terminal import progress
from tests.builds import SPEC, content, differing, render_clip, render_clips, run_build


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_clips(tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def built(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("stores") / "store"
    run_build(store, audio)
    return store


@pytest.fixture
def copies(audio: Path, built: Path, tmp_path: Path) -> tuple[Path, Path]:
    """(audio, store) that a test may change."""
    shutil.copytree(audio, tmp_path / "audio", copy_function=shutil.copy2)
    shutil.copytree(built, tmp_path / "store")
    return tmp_path / "audio", tmp_path / "store"


def test_every_track_is_measured_with_its_provenance(built: Path) -> None:
    rows = Store.open(str(built)).read_current("excerpts").to_pylist()
    assert len(rows) == 6 * SPEC.excerpts
    assert {(r["track_id"], r["excerpt"]) for r in rows} == {(r["track_id"], e) for r in rows for e in range(12)}
    row = rows[0]
    assert row["spec"] == SPEC.fingerprint
    assert row["decoder"] == "libsndfile"
    assert row["decoder_version"]
    assert "numpy " in row["libraries"]
    assert row["native_rate"] == 16000
    assert row["duration_s"] == pytest.approx(0.1, abs=1e-3)


def test_batches_hold_whole_tracks_and_sort_by_name(built: Path) -> None:
    store = Store.open(str(built))
    owners: dict[int, set[str]] = {}
    for batch in store.batches():
        for track in store.read_batch("excerpts", batch, ["track_id"])["track_id"].to_pylist():
            owners.setdefault(track, set()).add(batch)
    assert all(len(batches) == 1 for batches in owners.values())
    assert store.batches() == ("000001-00000", "000001-00001", "000001-00002")


def test_values_do_not_depend_on_jobs(audio: Path, built: Path, tmp_path: Path) -> None:
    run_build(tmp_path / "two", audio, jobs=2)
    assert differing(content(built), content(tmp_path / "two")) == []


def test_features_equal_the_extractor_called_by_hand(audio: Path, built: Path) -> None:
    from featurestore import extract
    from featurestore.audio import decode

    store = Store.open(str(built))
    path = {r["track_id"]: r["path"] for r in store.read_catalog("tracks", ["track_id", "path"]).to_pylist()}
    row = store.read_current("features").sort_by([("track_id", "ascending"), ("excerpt", "ascending")]).to_pylist()[0]
    excerpt = decode.decode(str(audio / path[row["track_id"]]), SPEC)[0]
    np.testing.assert_allclose(list(row.values())[2:], extract.extract(excerpt.y, SPEC).features, rtol=1e-5, atol=1e-6)


def test_a_finished_store_has_nothing_to_do(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    report = run_build(store, audio)
    assert (report.todo, report.already, report.tracks) == (0, 6, 6)


def test_a_build_with_nothing_to_do_opens_the_batches_once(
    copies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, real = [], Store.snapshot

    def snapshot(store: Store) -> Snapshot:
        taken.append(store.url)
        return real(store)

    monkeypatch.setattr(Store, "snapshot", snapshot)
    run_build(copies[1], copies[0])
    assert len(taken) == 1


def test_a_build_with_nothing_to_do_removes_what_was_replaced_an_hour_ago(
    copies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    audio, url = copies
    compact.compact(str(url))
    run_build(url, audio)
    assert len(Store.open(str(url)).batches()) == 4, "readers may still want the three"
    monkeypatch.setattr(gc, "GRACE_S", 0.0)
    assert run_build(url, audio).todo == 0
    assert len(Store.open(str(url)).batches()) == 1


def test_a_touched_file_is_hashed_and_not_decoded(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    os.utime(audio / "rock" / "clip00.wav", ns=(1, 1))
    report = run_build(store, audio)
    assert (report.decoded, report.unchanged) == (0, 1)
    assert run_build(store, audio).todo == 0, "the new time is remembered"


def test_a_replaced_file_is_decoded_even_with_the_same_size(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    before = content(store)
    path = audio / "rock" / "clip00.wav"
    size = path.stat().st_size
    render_clip(path, seed=77)
    assert path.stat().st_size == size
    report = run_build(store, audio)
    assert (report.decoded, report.already) == (1, 5)
    after = content(store)
    assert after["excerpts"].num_rows == before["excerpts"].num_rows, "superseded rows are not shown"
    assert differing(before, after) == ["excerpts", "features", "mel", "wave"]


def test_a_file_of_another_size_is_decoded_even_with_the_old_time(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    path = audio / "rock" / "clip00.wav"
    stat = path.stat()
    render_clip(path, seed=79, seconds=2.0)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run_build(store, audio).decoded == 1


def test_a_changed_file_with_the_old_size_and_time_needs_force(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    path = audio / "rock" / "clip00.wav"
    stat = path.stat()
    render_clip(path, seed=78)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run_build(store, audio).todo == 0
    assert run_build(store, audio, force=True).decoded == 6


def test_what_is_no_regular_file_is_not_opened(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    os.mkfifo(audio / "rock" / "pipe.wav")  # opening it would wait for a writer
    report = run_build(store, audio, timeout_s=60)
    assert report.failures == {}
    assert any("rock/pipe.wav" in warning for warning in report.warnings), report.warnings
    with pytest.raises(AudioError, match="not a regular file"):  # as when it took the place of a file after the scan
        measure_file(str(audio / "rock" / "pipe.wav"), Spec())


def test_failures_are_rows_and_the_good_tracks_are_there(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    (audio / "rock" / "empty.wav").touch()
    (audio / "rock" / "text.mp3").write_text("this is not music\n" * 50)
    report = run_build(store, audio)
    assert (report.decoded, report.failed, dict(report.failures)) == (0, 2, {"empty": 1, "not_audio": 1})
    again = run_build(store, audio)
    assert (again.todo, sum(again.failures.values())) == (0, 2), "known failures are not tried again"
    assert run_build(store, audio, retry=True).failed == 2
    render_clip(audio / "rock" / "empty.wav", seed=5)
    fixed = run_build(store, audio)
    assert (fixed.decoded, dict(fixed.failures)) == (1, {"not_audio": 1})


def test_the_progress_bar_counts_the_failures(copies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    audio, store = copies
    steps: list[tuple[float, int]] = []
    monkeypatch.setattr(progress.Bar, "advance", lambda self, n=1, *, failed=0: steps.append((n, failed)))
    (audio / "rock" / "empty.wav").touch()
    run_build(store, audio)
    assert steps == [(1, 1)]


def test_a_good_file_that_breaks_is_a_failure_and_its_rows_are_not_shown(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    (audio / "rock" / "clip00.wav").write_bytes(b"")
    report = run_build(store, audio)
    assert report.failures == {"empty": 1}
    assert content(store)["excerpts"].num_rows == 5 * SPEC.excerpts


def test_another_spec_is_refused_by_its_number(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    with pytest.raises(SpecMismatch, match=r"n_mels: store .* has 16, this command has 32"):
        run_build(store, audio, spec={"n_mels": 32})
    assert run_build(store, audio, spec={"n_mels": 16}).todo == 0, "a number that agrees is fine"
    assert run_build(store, audio, spec=None).todo == 0, "numbers that are not given are the store's"


def test_the_demo_has_its_own_defaults() -> None:
    assert settle_spec(None, {"n_mels": 64}, "demo") == Spec(excerpts=3, excerpt_seconds=10.0, n_mels=64)


def test_batches_are_whole_tracks_of_a_bounded_size() -> None:
    assert tracks_per_batch(Spec()) == 24
    assert tracks_per_batch(Spec(excerpts=3, excerpt_seconds=10.0)) == 8
    assert tracks_per_batch(Spec(excerpts=100)) == 1
    long = Spec(excerpt_seconds=600.0)
    assert 1 <= tracks_per_batch(long) * long.n_mels * long.n_frames(long.excerpt_samples) * 4 <= BATCH_BYTES


def test_dry_run_writes_nothing(audio: Path, tmp_path: Path) -> None:
    report = run_build(tmp_path / "store", audio, dry_run=True)
    assert (report.todo, report.dry_run) == (6, True)
    assert not (tmp_path / "store").exists()


def test_limit_leaves_the_rest_for_later(audio: Path, tmp_path: Path) -> None:
    assert run_build(tmp_path / "store", audio, limit=2).decoded == 2
    assert run_build(tmp_path / "store", audio).decoded == 4


def test_workers_use_one_thread_each(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threadpoolctl\n"
        "if 'popen_loky_posix' in ' '.join(sys.orig_argv):\n"
        "    import featurestore.audio.decode as d\n"
        "    real = d.decode\n"
        "    def decode(source, spec):\n"
        "        import numba, numpy, pyarrow\n"
        "        n = [p['num_threads'] for p in threadpoolctl.threadpool_info()]\n"
        "        n += [numba.get_num_threads(), pyarrow.cpu_count()]\n"
        f"        open({str(tmp_path / 'threads')!r}, 'a').write(str(max(n)) + '\\n')\n"
        "        return real(source, spec)\n"
        "    d.decode = decode\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run_build(tmp_path / "store", audio)
    assert set((tmp_path / "threads").read_text().split()) == {"1"}


def test_one_job_is_one_file_at_a_time(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if 'popen_loky_posix' in ' '.join(sys.orig_argv):\n"
        "    import featurestore.audio.decode as d\n"
        "    real = d.decode\n"
        "    def decode(source, spec):\n"
        f"        mark = {str(tmp_path / 'busy')!r}\n"
        "        if isinstance(source, str):\n"
        "            os.mkdir(mark)\n"
        "            time.sleep(0.05)\n"
        "            os.rmdir(mark)\n"
        "        return real(source, spec)\n"
        "    d.decode = decode\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_build(tmp_path / "store", audio, jobs=1).failed == 0  # a second mkdir would be a crash


# ---------------------------------------------------------------- golden values


def test_golden_values_are_kept_and_hold(built: Path) -> None:
    record = Store.open(str(built)).manifest["golden"]
    assert golden.differences(record, golden.measure(SPEC)) == []
    assert record["values"]["rms_mean_01"] > 0.01


def test_libraries_that_measure_other_values_are_refused(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    render_clip(audio / "rock" / "new.wav", seed=9)
    opened = Store.open(str(store))
    record = opened.manifest["golden"]
    values = {**record["values"], "spectral_centroid_mean_01": record["values"]["spectral_centroid_mean_01"] * 1.01}
    opened.update_manifest(golden={"libraries": "librosa 0.1", "values": values})
    before = content(store)
    with pytest.raises(SpecMismatch, match=r"spectral_centroid_mean_01: .* stored, .* now(.|\n)*librosa 0\.1"):
        run_build(store, audio)
    after = content(store)
    assert all(before[name].equals(after[name]) for name in ("excerpts", "features", "mel", "wave"))


def test_force_measures_everything_again_also_in_two_builds(copies: tuple[Path, Path]) -> None:
    audio, store = copies
    opened = Store.open(str(store))
    record = opened.manifest["golden"]
    opened.update_manifest(golden={**record, "values": {n: v + 1 for n, v in record["values"].items()}})
    assert run_build(store, audio, force=True, limit=2).decoded == 2  # as if it had been cut short
    report = run_build(store, audio)
    assert (report.decoded, report.already) == (4, 2), "rows of the old libraries do not count as measured"


# ---------------------------------------------------------------- the command


def test_command_exit_codes_and_words(audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "audio"
    shutil.copytree(audio, folder)
    (folder / "rock" / "bad.mp3").write_bytes(b"\0" * 3000)
    options = ["build", "--dataset", "folders", "--audio", str(folder), "--store", str(tmp_path / "store"), "--jobs=1"]
    assert main([*options, "--excerpt-seconds=0.5", "--groups=fma", "--n-mels=16", "--limit=7"]) == 3
    out = capsys.readouterr().out
    assert "6 of 7 tracks decoded" in out
    assert "1 not_audio" in out
    assert main(options) == 3
    assert "nothing to do: no file has changed" in capsys.readouterr().out
    assert main(["status", "--store", str(tmp_path / "store")]) == 0
    assert "not_audio" in capsys.readouterr().out


def test_a_number_out_of_range_is_a_usage_error(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="n_fft must be between"):
        run_build(tmp_path / "store", audio, spec={"n_fft": 7})
