"""Decoding through ffmpeg what libsndfile refuses; mostly by a stand-in, so that no test needs an ffmpeg."""

from __future__ import annotations

import contextlib
import io
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featurestore.audio import ffmpeg
from featurestore.audio.decode import decode
from featurestore.errors import AudioError
from featurestore.spec import Spec
from tests.builds import wait_until
from tests.test_decode import RATE, failure, noise

STAND_IN = """#!{python}
# stands in for ffmpeg: "decodes" a file that holds the letters FAKE and a WAV
import io, sys, time
import numpy as np, soundfile
args = sys.argv[1:]
if args == ["-version"]:
    print("ffmpeg version 7.7 Copyright"); sys.exit()
path = args[args.index("-i") + 1].removeprefix("file:")
data = open(path, "rb").read()
if data.startswith(b"fLaC"):  # damaged: a real ffmpeg conceals it
    data = open(path + ".concealed", "rb").read()
if not data.startswith(b"FAKE"):
    sys.stderr.write("Invalid data found when processing input\\n"); sys.exit(1)
if data[4:] == b"video":
    sys.stderr.write("Stream map '0:a:0' matches no streams.\\n"); sys.exit(1)
if data[4:] == b"hang":
    time.sleep(60)
x, rate = soundfile.read(io.BytesIO(data[4:]), dtype="float32", always_2d=True)
sys.stderr.write("  Duration: 00:00:%05.2f, start: 0\\n" % (len(x) / rate))
first = int(args[args.index("-af") + 1].removeprefix("atrim=start_sample=")) if "-af" in args else 0
sys.stdout.buffer.write(b".snd" + np.array([28, 2**32 - 1, 6, rate, x.shape[1]], ">u4").tobytes() + bytes(4))
try:
    sys.stdout.buffer.write(x[first:].astype(">f4").tobytes())
    sys.stdout.flush()
except BrokenPipeError:
    sys.stderr.close()
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    binary = tmp_path / "ffmpeg"
    binary.write_text(STAND_IN.format(python=sys.executable))
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    return str(binary)


def fake(path: Path, x: np.ndarray, rate: int = RATE) -> Path:
    buffer = io.BytesIO()
    soundfile.write(buffer, x, rate, format="WAV", subtype="FLOAT")
    path.write_bytes(b"FAKE" + buffer.getvalue())
    return path


@pytest.mark.usefixtures("stand_in")
def test_what_libsndfile_refuses_goes_to_the_fallback(tmp_path: Path) -> None:
    x = noise(3.0, 2)
    path = fake(tmp_path / "a.m4a", x)
    spec = Spec(sample_rate=RATE, excerpt_seconds=1.0, excerpts=2)
    found = decode(path, spec)
    assert [e.start_s for e in found] == [0.25, 1.75]
    for e in found:
        first = round(e.start_s * RATE)
        np.testing.assert_array_equal(e.y, x[first : first + RATE].mean(axis=1))
        assert (e.decoder, e.decoder_version, e.channels) == ("ffmpeg", "7.7", 2)
    (again, _) = decode(io.BytesIO(path.read_bytes()), spec)
    np.testing.assert_array_equal(again.y, found[0].y)


@pytest.mark.usefixtures("stand_in")
def test_the_fallback_refuses_too(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"text " * 100)
    error = failure(path)
    assert (error.stage, error.kind) == ("open", "not_audio")
    assert "Invalid data" in error.message
    path.write_bytes(b"FAKEvideo")
    assert failure(path).kind == "no_audio"


def test_a_fallback_that_hangs_is_stopped(stand_in: str, tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"FAKEhang")
    with pytest.raises(AudioError, match=r"a.m4a: ffmpeg gave no more samples within 1 s") as caught:
        ffmpeg.FfmpegReader(stand_in, str(path), "a.m4a", timeout_s=1.0)
    assert (caught.value.stage, caught.value.kind) == ("decode", "timeout")


def damaged_flac(path: Path, x: np.ndarray) -> Path:
    """A FLAC whose middle libsndfile cannot read."""
    soundfile.write(path, x, RATE)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + b"\x55" * 4000 + data[middle + 4000 :])
    return path


@pytest.mark.usefixtures("stand_in")
def test_what_stops_libsndfile_in_the_middle_goes_to_the_fallback(tmp_path: Path) -> None:
    x = noise(3.0, 2)
    path = damaged_flac(tmp_path / "a.flac", x)
    fake(tmp_path / "a.flac.concealed", x)
    (found,) = decode(path, Spec(sample_rate=RATE, excerpt_seconds=3.0))
    assert found.decoder == "ffmpeg"
    np.testing.assert_array_equal(found.y, x.mean(axis=1))


def test_without_a_fallback_it_is_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = failure(damaged_flac(tmp_path / "a.flac", noise(3.0, 2)))
    assert (error.stage, error.kind) == ("decode", "truncated")
    assert "libsndfile stopped while reading" in error.message


def test_an_ffmpeg_ends_with_the_process_that_started_it(stand_in: str, tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"FAKEhang")
    code = f"from featurestore.audio import ffmpeg; ffmpeg.FfmpegReader({stand_in!r}, {str(path)!r}, 'a')"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")

    def hanging() -> list[str]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the child that told its version has ended
            pids = children.read_text().split()
            return [p for p in pids if "-version" not in Path(f"/proc/{p}/cmdline").read_text()]
        return []

    def ended(pid: str) -> bool:
        stat = Path(f"/proc/{pid}/stat")  # a process that nobody has waited for is still listed, as a zombie
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    assert wait_until(hanging)
    (child,) = hanging()
    parent.kill()
    parent.wait()
    assert wait_until(lambda: ended(child))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on this machine")
def test_a_real_ffmpeg(tmp_path: Path) -> None:
    x = noise(3.0, rate=44100)[:, 0] * np.linspace(0, 1, 3 * 44100, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", x, 44100, subtype="PCM_16")
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "alac", tmp_path / "a.m4a"]
    subprocess.run(command, check=True)
    spec = Spec(sample_rate=44100, excerpt_seconds=0.5, excerpts=3)
    lossless = decode(tmp_path / "a.m4a", spec)
    assert {e.decoder for e in lossless} == {"ffmpeg"}
    for a, b in zip(lossless, decode(tmp_path / "a.wav", spec), strict=True):
        assert a.start_s == b.start_s
        np.testing.assert_allclose(a.y, b.y, atol=1e-6)
