"""Names of files that are not UTF-8, from the folder to SQL: every step takes them, and shows them as text."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from analysis import compare, predict
from featurestore import datasets
from featurestore.__main__ import main
from featurestore.audio import decode
from featurestore.errors import AudioError
from featurestore.maintenance.verify import verify
from featurestore.store.store import Store
from featurestore.terminal import cli
from tests.analysis_stores import SMALL_GRIDS, small_store
from tests.builds import SPEC, build_command, render_clip, run_build, start
from tests.test_decode_ffmpeg import STAND_IN

LATIN = os.fsdecode(b"caf\xe9")  # what a disk from the days of Latin-1 says
SHOWN = r"caf\xe9"


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """A folder caf<e9> with jazz/caf<e9>.mp3 and rock/a.wav, caf<e9>.wav (broken) and caf<e9>.m4a (for ffmpeg)."""
    folder = tmp_path / LATIN
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    for name in ("jazz/x.mp3", "rock/a.wav", "rock/b.wav"):
        render_clip(tmp_path / "made" / name, len(name))
    for genre in ("jazz", "rock"):
        (folder / genre).mkdir()
    made = tmp_path / "made"
    (made / "jazz/x.mp3").rename(folder / "jazz" / f"{LATIN}.mp3")
    (made / "rock/a.wav").rename(folder / "rock/a.wav")
    (folder / "rock" / f"{LATIN}.m4a").write_bytes(b"FAKE" + (made / "rock/b.wav").read_bytes())
    (folder / "rock" / f"{LATIN}.wav").write_bytes(b"RIFF....WAVEnothing")
    return folder


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for ffmpeg, where worker processes find it too."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ffmpeg").write_text(STAND_IN.format(python=sys.executable))
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("dataset", ["folders", "tags"])
@pytest.mark.usefixtures("on_path")
def test_a_build_measures_them_once(music: Path, tmp_path: Path, dataset: str) -> None:
    report = run_build(tmp_path / "s", music, dataset=dataset)
    assert (report.decoded, report.failures) == (3, {"not_audio": 1})
    store = Store.open(str(tmp_path / "s"))
    excerpts = store.read_current("excerpts", ["path", "decoder"]).to_pylist()
    decoders = {row["path"]: row["decoder"] for row in excerpts}
    assert decoders == {
        f"jazz/{SHOWN}.mp3": "libsndfile",
        "rock/a.wav": "libsndfile",
        f"rock/{SHOWN}.m4a": "ffmpeg",
    }
    failure = store.read_current("failures", ["path", "message"]).to_pylist()[0]
    assert failure["path"] == f"rock/{SHOWN}.wav"
    assert failure["message"].startswith(f"rock/{SHOWN}.wav: neither libsndfile nor ffmpeg reads it")
    assert str(tmp_path) not in failure["message"]
    again = run_build(tmp_path / "s", music, dataset=dataset)
    assert (again.todo, again.already) == (0, 3)
    checked = verify(str(tmp_path / "s"), sample=3)
    assert not checked.damages
    assert checked.recomputed == 3 * SPEC.excerpts


def test_the_commands_print_them_as_text(music: Path, tmp_path: Path) -> None:
    process = start(build_command(tmp_path / "s", music))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "2 of 4 tracks decoded" in out
    process = start(build_command(tmp_path / "s", music / "nothing"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "does not exist" in err
    assert "Traceback" not in err


def test_what_a_terminal_cannot_show_is_shown_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    def command(argv: object) -> int:
        print(LATIN)
        return 0

    assert cli.run(command) == 0
    assert capsys.readouterr().out == "caf\\udce9\n"


def test_a_store_must_have_a_name_in_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["status", "--store", str(tmp_path / LATIN)])
    assert stopped.value.code == 2
    assert "expected a name in UTF-8" in capsys.readouterr().err


def test_tags_of_a_name_that_looks_like_a_url(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "a::b.flac", "w", 8000, 1) as file:
        file.title = "Duet"
        file.write(np.zeros(800))
    found = datasets.load("tags", audio=str(tmp_path))
    assert [(r["path"], r["title"]) for r in found.tracks.to_pylist()] == [("a::b.flac", "Duet")]


def test_a_kept_model_answers_them(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tmp_path / "model")
    compare.compare(small_store(tmp_path), models=("svm_linear",), grids=SMALL_GRIDS, models_dir=model)
    assert cli.run(predict.main, [model, str(music), "--format", "json"]) == 3
    out, err = capsys.readouterr()
    names = [row["path"].removeprefix(f"{tmp_path}/") for row in json.loads(out)]
    assert names == [rf"{SHOWN}/jazz/{SHOWN}.mp3", rf"{SHOWN}/rock/a.wav"]
    assert "begins as WAV" in err

    def unforeseen(source: object, spec: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(decode, "decode", unforeseen)
    assert cli.run(predict.main, [model, str(music)]) == 1
    assert capsys.readouterr().err.count("decode: crash") == 4


def test_decode_says_which_file_it_refuses(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # so that there is no ffmpeg
    with pytest.raises(AudioError, match="begins as WAV") as refused:
        decode.decode(music / "rock" / f"{LATIN}.wav", SPEC)
    assert refused.value.kind == "truncated"
    assert json.loads(json.dumps(refused.value.message)) == refused.value.message
