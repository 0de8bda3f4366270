"""The extractor against plain librosa: milliseconds per clip from file to numbers, one thread.

The baseline is what one would write with librosa, and what the FMA authors wrote: one `librosa.load`, then each of
the eleven features through its public function with the right `sr`, the STFT and the constant-Q shared, seven
statistics by numpy and scipy. Decode only is soundfile, the mean of the channels and soxr. openSMILE and essentia take
part where they are installed; they measure other features, so theirs is a scale and no contest.

--clips names a folder of recordings; without it clips are rendered. Peak memory is ru_maxrss of a process of its own
that measures one file; the first clip is timed from the start of a fresh process, imports included.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from featurestore.spec import Spec

RATES = (44100, 22050)
AUDIO = (".mp3", ".ogg", ".flac", ".wav", ".opus")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def plain_librosa(path: str, rate: int) -> np.ndarray:
    """FMA's features.py (arXiv 1612.01840) on today's librosa, with the `sr` it left out: float32 (518,)."""
    import librosa
    import scipy.stats

    x, sr = librosa.load(path, sr=rate, mono=True)
    stft = np.abs(librosa.stft(x))
    cqt = np.abs(librosa.cqt(x, sr=sr, n_bins=84, bins_per_octave=12, tuning=None))
    cens = librosa.feature.chroma_cens(C=cqt, bins_per_octave=12)
    mel = librosa.feature.melspectrogram(S=stft**2, sr=sr)
    rows = np.concatenate(
        [
            librosa.feature.chroma_stft(S=stft**2, sr=sr),
            librosa.feature.chroma_cqt(C=cqt, bins_per_octave=12),
            cens,
            librosa.feature.tonnetz(chroma=cens),
            librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20),
            librosa.feature.rms(S=stft),
            librosa.feature.spectral_centroid(S=stft, sr=sr),
            librosa.feature.spectral_bandwidth(S=stft, sr=sr),
            librosa.feature.spectral_contrast(S=stft, sr=sr),
            librosa.feature.spectral_rolloff(S=stft, sr=sr),
            librosa.feature.zero_crossing_rate(x),
        ]
    )
    moments = (scipy.stats.skew(rows, axis=1), scipy.stats.kurtosis(rows, axis=1))
    extremes = (np.median(rows, axis=1), rows.min(axis=1), rows.max(axis=1))
    return np.concatenate([rows.mean(axis=1), rows.std(axis=1), *moments, *extremes])


def decode_only(path: str, rate: int) -> np.ndarray:
    """The least that any extractor does: samples at the rate asked for."""
    import soundfile
    import soxr

    x, native = soundfile.read(path, dtype="float32", always_2d=True)
    mono = x[:, 0] if x.shape[1] == 1 else (x[:, 0] + x[:, 1]) * np.float32(0.5)
    return mono if native == rate else soxr.resample(mono, native, rate, "soxr_hq")


def ours(path: str, spec: Spec) -> np.ndarray:
    """The product: decode and extract, mel spectrogram included."""
    from featurestore.audio.decode import decode
    from featurestore.extract import extract

    return np.concatenate([extract(e.y, spec).features for e in decode(path, spec)])


def peers() -> dict[str, Callable[[str], object]]:
    """Other extractors that are installed here: name -> function of a path."""
    found: dict[str, Callable[[str], object]] = {}
    try:
        import opensmile

        smile = opensmile.Smile(feature_set=opensmile.FeatureSet.ComParE_2016)
        found["openSMILE ComParE_2016"] = smile.process_file
    except ImportError:
        pass
    try:
        import essentia.standard

        essentia.log.infoActive = False
        found["essentia MusicExtractor"] = essentia.standard.MusicExtractor()
    except ImportError:
        pass
    return found


def time_rate(paths: list[str], rate: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of the main table: median milliseconds per clip of each case, and ratios against the baseline."""
    every, fma = Spec(sample_rate=rate), Spec(sample_rate=rate, groups=("fma",))
    cases: dict[str, Callable[[str], object]] = {
        "plain librosa, 518 (baseline)": lambda p: plain_librosa(p, rate),
        "ours, the same 518": lambda p: ours(p, fma),
        f"ours, all {every_columns(every)}": lambda p: ours(p, every),
        "decode only": lambda p: decode_only(p, rate),
        **peers(),
    }
    for case in cases.values():  # compile, fill caches
        case(paths[0])
    per_clip = [
        common.interleaved({n: (lambda c=c, p=p: c(p)) for n, c in cases.items()}, repeats)  # type: ignore[misc]
        for p in paths
    ]
    medians = {n: statistics.median(t[n] for t in per_clip) for n in cases}
    base, floor = medians["plain librosa, 518 (baseline)"], medians["decode only"]
    return [
        {"rate": rate, "case": n, "ms a clip": 1e3 * s, "x baseline": base / s, "x decode only": s / floor}
        for n, s in medians.items()
    ]


def every_columns(spec: Spec) -> int:
    """Number of columns of a spec."""
    from featurestore.registry import column_names

    return len(column_names(spec.groups))


def worst_columns(paths: list[str], rate: int) -> dict[str, Any]:
    """The column furthest from librosa: relative, or of its spread over these clips where that is less."""
    from featurestore.audio.decode import decode
    from featurestore.extract import extract
    from featurestore.registry import column_names
    from tests import oracle

    spec = Spec(sample_rate=rate)
    samples = [decode(p, spec)[0].y for p in paths]
    expected = np.array([oracle.features(y, spec)[0] for y in samples])
    difference = np.abs(np.array([extract(y, spec).features for y in samples], np.float64) - expected)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.fmin(difference / np.abs(expected), difference / expected.std(axis=0))
    error = np.where(difference == 0, 0, error)
    clip, column = np.unravel_index(np.argmax(error), error.shape)
    return {
        "rate": rate,
        "clips": len(paths),
        "columns": error.shape[1],
        "worst column": column_names(spec.groups)[column],
        "error": float(error[clip, column]),
        "columns above 1e-4": int((error.max(axis=0) > 1e-4).sum()),
    }


def throughput(paths: list[str], jobs: int, rounds: int) -> list[dict[str, Any]]:
    """Clips a second with one worker process and with `jobs`, each pinned to one thread; medians of rounds in turn."""
    os.environ |= ONE_THREAD  # inherited by the workers
    context = multiprocessing.get_context("spawn")
    work = paths * max(1, 16 * jobs // len(paths))
    with (
        ProcessPoolExecutor(1, context, initializer=_start_worker) as one,
        ProcessPoolExecutor(jobs, context, initializer=_start_worker) as many,
    ):
        pools = {1: one, jobs: many}
        for n, pool in pools.items():  # every worker has started and measured a clip
            list(pool.map(_measure, work[: 4 * n]))
        cases = {str(n): (lambda pool=pool: list(pool.map(_measure, work))) for n, pool in pools.items()}  # type: ignore[misc]
        seconds = common.interleaved(cases, rounds)
    return [
        {"jobs": int(n), "clips a second": len(work) / s, "x one job": seconds["1"] / s} for n, s in seconds.items()
    ]


def _start_worker() -> None:
    from featurestore.extract import warm_up

    warm_up(Spec())


def _measure(path: str) -> int:
    return len(ours(path, Spec()))


def memory(paths: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Peak memory of a process that measures one file. Call it while this process is small: a child inherits a peak."""
    code = (
        "import sys, resource; from benchmarks.extract import ours; from featurestore.spec import Spec;"
        "ours(sys.argv[1], Spec()); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    rows = []
    for label, path in paths:
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        unit = 1 if sys.platform == "darwin" else 1024
        rows.append({"file": label, "peak MB": int(done.stdout) * unit / 1e6})
    return rows


def first_clip(path: str) -> list[dict[str, Any]]:
    """Seconds from the start of a process to its first features: empty numba cache, then the one that this left."""
    code = (
        "import sys; from benchmarks.extract import ours; from featurestore.spec import Spec; ours(sys.argv[1], Spec())"
    )
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        for label, runs in (("cold", 1), ("warm", 3)):
            seconds = []
            for _ in range(runs):
                started = time.perf_counter()
                subprocess.run([sys.executable, "-c", code, path], env=environment, capture_output=True, check=True)
                seconds.append(time.perf_counter() - started)
            rows.append({"numba cache": label, "first clip, s": statistics.median(seconds)})
    return rows


def long_wav(path: Path, hours: float, rate: int = 44100) -> Path:
    """A stereo WAV of `hours`, sparse on disk: a minute of noise at the centre of silence."""
    samples = int(hours * 3600) * rate * 2
    form = struct.pack("<IHHIIHH", 16, 1, 2, rate, 4 * rate, 4, 16)  # PCM, two channels of 16 bits
    header = (
        b"RIFF" + struct.pack("<I", 36 + 2 * samples) + b"WAVEfmt " + form + b"data" + struct.pack("<I", 2 * samples)
    )
    noise = np.random.default_rng(0).integers(-3000, 3000, 60 * rate * 2).astype("<i2")
    with path.open("wb") as file:
        file.write(header)
        file.seek(len(header) + (samples // 2 - len(noise) // 2) * 2)
        file.write(noise.tobytes())
        file.truncate(len(header) + 2 * samples)
    return path


def find_clips(folder: str, limit: int) -> list[str]:
    """Up to `limit` audio files of a folder, spread evenly over its sorted list."""
    found = sorted(str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in AUDIO)
    if not found:
        raise SystemExit(f"{folder}: no audio files ({', '.join(AUDIO)}); name a folder that holds some with --clips")
    return [found[i * len(found) // limit] for i in range(limit)] if len(found) > limit else found


def main() -> None:
    parser = common.parser("extract", __doc__)
    parser.add_argument("--clips", metavar="DIR", help="folder of recordings of 30 s (default: rendered clips)")
    parser.add_argument("--limit", type=int, default=12, help="clips used at most")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over every clip")
    parser.add_argument("--jobs", type=int, default=2, help="workers compared with one")
    parser.add_argument("--hours", type=float, default=3.0, help="length of the long file")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # librosa on silent frames
    with tempfile.TemporaryDirectory() as scratch:
        tables = run(args.clips or _render(scratch, args.limit), Path(scratch), args)
    common.report(args.format, tables, clips=args.clips or "rendered")


def run(folder: str, scratch: Path, args: Any) -> dict[str, list[dict[str, Any]]]:
    """All tables: title -> rows."""
    from threadpoolctl import threadpool_limits

    paths = find_clips(folder, args.limit)
    long = long_wav(scratch / "long.wav", args.hours)
    peak = memory([("a clip", paths[0]), (f"{args.hours:g} hours", str(long))])
    with threadpool_limits(1):
        times = [row for rate in RATES for row in time_rate(paths, rate, args.repeats)]
        accuracy = [worst_columns(paths, rate) for rate in RATES]
    by_case = {(r["rate"], r["case"]): r["ms a clip"] for r in times}
    extra = [
        {"rate": rate, "rhythm and timbre_dynamics add": _share(by_case, rate)} for rate in RATES
    ]  # share of the time of the 518
    return {
        "One thread, decoding included": times,
        "Cost of the groups beyond FMA's": extra,
        "Worst column against librosa": accuracy,
        "Throughput": throughput(paths, args.jobs, args.repeats),
        "Peak memory of a worker": peak,
        "Fresh process": first_clip(paths[0]),
    }


def _share(by_case: dict[tuple[int, str], float], rate: int) -> str:
    (fma,) = [s for (r, n), s in by_case.items() if r == rate and n.startswith("ours, the same")]
    (every,) = [s for (r, n), s in by_case.items() if r == rate and n.startswith("ours, all")]
    return f"{100 * (every / fma - 1):.1f} %"


def _render(scratch: str, tracks: int) -> str:
    from benchmarks.synthesize import synthesize

    return synthesize(os.path.join(scratch, "clips"), tracks=tracks).folder


if __name__ == "__main__":
    main()
