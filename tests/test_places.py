"""Only the store's own files are ever removed or written over, in folders that are the store's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from featurestore.__main__ import main
from featurestore.errors import UsageError
from featurestore.store import files, lock, places
from featurestore.terminal import cli
from tests.builds import render_clips, run_build
from tests.factories import make_store


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's folder: music in `data/wave`, and files of other names that a store uses too."""
    render_clips(tmp_path / "data" / "wave", tracks=4)
    for name in ("features/notes.txt", "wave/000001-00000.parquet", "mel/.old.parquet.0123abcd.tmp", "catalog/a.csv"):
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text("precious")
    return tmp_path


@pytest.mark.parametrize("store", ["data", ".", "data/wave", "data/wave/rock", "data/features"])
@pytest.mark.parametrize("command", ["build", "catalog"])
def test_a_folder_with_somebodys_files_is_no_store(
    project: Path, store: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    before = contents(project)
    assert cli.run(main, [command, "--dataset", "folders", "--audio", "data/wave", "--store", store]) == 2
    assert contents(project) == before
    err = capsys.readouterr().err
    assert "is not a feature store and not empty" in err or "--audio data/wave lies inside the store" in err
    assert "Name a" in err


def test_a_store_below_the_music_is_fine_and_music_below_the_store_is_not(project: Path) -> None:
    audio = project / "data" / "wave"
    assert run_build(audio / "store", audio).decoded == 4
    assert run_build(audio / "store", audio).todo == 0, "the store's files are no music"
    shutil.copytree(audio / "rock", audio / "store" / "rock")
    with pytest.raises(UsageError, match=r"--audio .*rock lies inside the store"):
        run_build(audio / "store", audio / "store" / "rock")
    with pytest.raises(UsageError, match=r"--audio .*rock lies inside the store"):
        run_build(project / "other", audio / "store" / "rock")


def test_a_build_and_gc_remove_only_names_of_the_stores_own_form(tmp_path: Path) -> None:
    audio, store = render_clips(tmp_path / "audio", tracks=2), tmp_path / "store"
    run_build(store, audio)
    strangers = [
        "features/notes.txt",
        "features/mine.parquet",
        "features/1-2.parquet",
        "mel/000009-00000.parquet.bak",
        "wave/.cache.tmp",
        "derived/mine.duckdb",
        "catalog/notes.csv",
        "wave/old/000009-00000.parquet",
        "notes.txt",
    ]
    own = ["mel/000009-00000.parquet", f"mel/.000009-00000.parquet.0123abcd{files.TEMPORARY}"]
    for name in (*strangers, *own):
        (store / name).parent.mkdir(exist_ok=True)
        (store / name).write_text("precious")
    run_build(store, audio, force=True)
    assert cli.run(main, ["compact", "--store", str(store)]) == 0
    assert cli.run(main, ["gc", "--grace", "0", "--store", str(store)]) == 0
    assert [n for n in strangers if not (store / n).exists()] == []
    assert [n for n in own if (store / n).exists()] == []


@pytest.mark.parametrize("folder", places.FOLDERS)
def test_nothing_is_written_or_removed_through_a_link(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(str(tmp_path / "store"), tracks=4, arrays_too=False)
    elsewhere = tmp_path / "elsewhere"
    if os.path.isdir(store.path(folder)):
        shutil.move(store.path(folder), elsewhere)
    else:
        elsewhere.mkdir()
    (elsewhere / "000009-00000.parquet").write_text("precious")
    os.symlink(elsewhere, store.path(folder))
    before = contents(elsewhere)
    audio = render_clips(tmp_path / "audio", tracks=2)
    for command in (
        ["gc", "--grace", "0"],
        ["compact"],
        ["build", "--dataset", "folders", "--audio", str(audio)],
        ["catalog", "--dataset", "folders", "--audio", str(audio)],
    ):
        assert cli.run(main, [*command, "--store", store.url]) == 2
        assert f"{folder} is not a folder but a link" in capsys.readouterr().err
    assert contents(elsewhere) == before
    assert not os.path.exists(store.path(lock.LOCK))


def test_a_store_may_be_a_link_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    os.symlink(tmp_path / "disk", tmp_path / "store")
    audio = render_clips(tmp_path / "audio", tracks=2)
    assert run_build(tmp_path / "store", audio).decoded == 2
    assert (tmp_path / "disk" / "store.json").exists()


def test_what_a_stopped_first_build_left_is_no_strangers(tmp_path: Path) -> None:
    for name in (lock.LOCK, f".store.json.0123abcd{files.TEMPORARY}"):
        (tmp_path / name).write_text("")
    assert run_build(tmp_path, render_clips(tmp_path.with_name("music"), tracks=2)).decoded == 2


def test_an_object_store_with_other_objects_is_no_store(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/store"
    fs, root = files.resolve(url)
    fs.pipe_file(f"{root}/notes.txt", b"precious")
    with pytest.raises(UsageError, match=r"it holds 'notes.txt', and no store.json"):
        run_build(url, render_clips(tmp_path, tracks=2))
    assert fs.find(root) == [f"{root}/notes.txt"]


@pytest.mark.parametrize("link", [False, True])
def test_outputs_inside_a_store_are_refused(link: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from training.export_tfrecords import main as export
    from warehouse.__main__ import main as ask

    store = make_store(str(tmp_path / "store"), tracks=12, arrays_too=False)
    before = contents(Path(store.root))
    output = Path(store.path("mel"))
    if link:
        os.symlink(output, tmp_path / "short")
        output = tmp_path / "short"
    where = ["--store", store.url]
    for command, line in (
        (main, ["import-features", *where, "--set", "mine", f"{output}/x.csv"]),
        (main, ["build", *where, "--dataset", "fma", "--metadata", str(output)]),
        (main, ["catalog", *where, "--dataset", "fma", "--metadata", str(output)]),
        (main, ["fetch", "fma_metadata", "--output", f"{output}/fma"]),
        (ask, [*where, "SELECT 1", "--output", f"{output}/x.csv"]),
        (ask, [*where, "catalog", f"{output}/x.duckdb"]),
        (export, [*where, "--kind", "features", "--output", f"{output}/records"]),
    ):
        assert cli.run(command, line) == 2, line
        assert "lies inside the store" in capsys.readouterr().err, line
    assert contents(Path(store.root)) == before
