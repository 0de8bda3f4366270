"""What C libraries say on standard error: dropped while a file is read, and only then."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import soundfile

from featurestore.audio import quiet
from featurestore.audio.decode import decode
from featurestore.spec import Spec
from tests.builds import render_clip


@pytest.fixture
def odd_mp3(tmp_path: Path) -> Path:
    """An MP3 that lost 600 bytes of its middle: mpg123 remarks on its size when opened, on a broken frame when read."""
    path = render_clip(tmp_path / "a.mp3", seconds=8.0)
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + data[half + 600 :])
    return path


def test_mpg123_has_something_to_say_when_it_is_not_kept_quiet(
    odd_mp3: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with soundfile.SoundFile(odd_mp3) as file:
        assert "Xing" in capfd.readouterr().err
        file.read()
    assert "Illegal Audio-MPEG-Header" in capfd.readouterr().err


def test_a_decode_is_silent(odd_mp3: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (excerpt,) = decode(odd_mp3, Spec(excerpt_seconds=2.0))
    assert excerpt.y.size
    assert capfd.readouterr().err == ""
    os.write(2, b"and speaks again\n")
    assert capfd.readouterr().err == "and speaks again\n"


def test_exceptions_pass_and_threads_may_overlap(capfd: pytest.CaptureFixture[str]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with quiet.libraries():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(60)
    with pytest.raises(ZeroDivisionError), quiet.libraries():
        raise ZeroDivisionError
    os.write(2, b"dropped: the other thread is inside")
    leave.set()
    thread.join()
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
