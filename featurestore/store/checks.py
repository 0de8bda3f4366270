"""What a measured value may be. Asked where values enter the store, and again by `verify`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import registry
from featurestore.spec import Spec
from featurestore.store import arrays

KEY = ("track_id", "excerpt")
# (column of excerpts, lowest, highest)
RANGES = (
    ("excerpt", 0, 32767),
    ("source_bytes", 0, 1 << 62),
    ("start_s", 0, 1e9),
    ("duration_s", 0, 3600.5),
    ("native_rate", 1, 10_000_000),
    ("channels", 1, 1024),
    ("peak", 0, 1e9),
    ("rms", 0, 1e9),
    ("clipped_share", 0, 1),
    ("silence_share", 0, 1),
)
# (feature, lowest, highest) of a frame's value, and so of its mean, median, minimum and maximum; a None is the Nyquist
# frequency
FRAME_RANGES: tuple[tuple[str, float, float | None], ...] = (
    ("chroma_stft", 0, 1),
    ("chroma_cqt", 0, 1),
    ("chroma_cens", 0, 1),
    ("tonnetz", -1, 1),
    ("rms", 0, np.inf),
    ("spectral_centroid", 0, None),
    ("spectral_bandwidth", 0, None),
    ("spectral_rolloff", 0, None),
    ("zcr", 0, 1),
    ("onset_strength", 0, np.inf),
    ("tempo", 0, np.inf),
    ("pulse_clarity", 0, 1),
    ("spectral_flatness", 0, 1),
    ("spectral_flux", 0, np.inf),
)
_SLACK = 1e-3  # float32 sums


def problems(tables: Mapping[str, pa.Table], batch: str, spec: Spec) -> list[str]:
    """What is wrong with the five tables of one batch.

    Parameters
    ----------
    tables : mapping of str to pa.Table
        Every table of `schemas.MEASURED`, of its schema.
    batch : str
        The batch's name.
    spec : Spec
        What the values were measured with.

    Returns
    -------
    list of str
        One sentence each, which begins with the table's name; [] if nothing is wrong.
    """
    mels, waves = mel_problems(tables["mel"], tables["excerpts"], spec), wave_problems(tables["wave"], spec)
    return [*row_problems(tables, batch, spec), *mels, *waves]


def row_problems(tables: Mapping[str, pa.Table], batch: str, spec: Spec) -> list[str]:
    """The same for all but the arrays: of `mel` and `wave` only the keys are read."""
    return [
        *_keys(tables, spec),
        *_excerpts(tables["excerpts"], batch, spec),
        *_features(tables["features"], spec),
        *_failures(tables, batch),
    ]


def _keys(tables: Mapping[str, pa.Table], spec: Spec) -> list[str]:
    found = []
    want = _key_set(tables["excerpts"])
    for name in ("excerpts", "features", "mel", "wave"):
        if name == "wave" and not spec.wave_samples:
            continue
        keys = _key_set(tables[name])
        if len(keys) != len(tables[name]):
            found.append(f"{name}: {len(tables[name]) - len(keys)} keys are there more than once")
        if keys != want:
            found.append(f"{name}: keys differ from those of excerpts, for example at track {min(keys ^ want)[0]}")
    return found


def _key_set(table: pa.Table) -> set[tuple[int, int]]:
    return set(zip(*(table[k].to_pylist() for k in KEY), strict=True))


def _excerpts(table: pa.Table, batch: str, spec: Spec) -> list[str]:
    found = []
    for name, low, high in RANGES:
        values = table[name].to_numpy()
        found.append(_first(table, name, ~((values >= low) & (values <= high)), "excerpts"))
    for name, expected in (("batch", batch), ("spec", spec.fingerprint)):
        found.append(_first(table, name, pc.not_equal(table[name], expected).to_numpy(), "excerpts"))
    return [f for f in found if f]


def _features(table: pa.Table, spec: Spec) -> list[str]:
    ranges = {name: (low, spec.sample_rate / 2 if high is None else high) for name, low, high in FRAME_RANGES}
    found = []
    for column in registry.columns(spec.groups):
        values = table[column.name].to_numpy()
        low, high = -np.inf, np.inf
        if column.statistic == "std":
            low = 0.0
        elif column.statistic not in ("skew", "kurtosis"):
            low, high = ranges.get(column.feature, (low, high))
        slack = _SLACK * (high if np.isfinite(high) else 1.0)
        bad = ~np.isfinite(values) | (values < low - slack) | (values > high + slack)
        found.append(_first(table, column.name, bad, "features"))
    return [f for f in found if f]


def mel_problems(table: pa.Table, excerpts: pa.Table, spec: Spec) -> list[str]:
    """The same for rows of `mel`: shapes, finite values, and as many frames as the excerpt is long."""
    found = []
    rows = zip(*(excerpts[c].to_pylist() for c in (*KEY, "duration_s")), strict=True)
    seconds = {(track, excerpt): duration for track, excerpt, duration in rows}
    columns = (table[c].to_pylist() for c in (*KEY, "n_mels", "n_frames"))
    for i, (track, excerpt, n_mels, n_frames) in enumerate(zip(*columns, strict=True)):
        try:
            mel = arrays.decode_mel(table["mel"][i].as_buffer(), spec.n_mels)
        except ValueError as error:
            found.append(f"mel: track {track}: {error}")
            continue
        expected = spec.n_frames(round(seconds.get((track, excerpt), 0.0) * spec.sample_rate))
        if mel.shape != (n_mels, n_frames) or n_mels != spec.n_mels:
            found.append(f"mel: track {track}: {mel.shape} values for {n_mels} bands of {n_frames} frames")
        elif (track, excerpt) in seconds and abs(n_frames - expected) > 2:
            found.append(f"mel: track {track}: {n_frames} frames, its duration gives {expected}")
        elif not np.isfinite(mel).all():
            found.append(f"mel: track {track}: not finite")
    return found


def wave_problems(table: pa.Table, spec: Spec) -> list[str]:
    """The same for rows of `wave`: sample rate, length and scale."""
    found = []
    columns = (table[c].to_pylist() for c in ("track_id", "sample_rate", "n_samples", "scale"))
    for i, (track, rate, n, scale) in enumerate(zip(*columns, strict=True)):
        size = table["wave"][i].as_buffer().size
        if rate != spec.sample_rate or size != 2 * n or n > spec.wave_samples or not 0 < scale < np.inf:
            found.append(f"wave: track {track}: {size} bytes for {n} samples at {rate} Hz, scale {scale}")
    return found


def _failures(tables: Mapping[str, pa.Table], batch: str) -> list[str]:
    failed = tables["failures"]["track_id"].to_pylist()
    both = set(failed) & set(tables["excerpts"]["track_id"].to_pylist())
    found = [f"failures: track {min(both)} is in excerpts too"] if both else []
    if len(set(failed)) != len(failed):
        found.append("failures: a track is there more than once")
    if any(b != batch for b in tables["failures"]["batch"].to_pylist()):
        found.append(f"failures: rows that are not of batch {batch}")
    return found


def _first(table: pa.Table, name: str, bad: np.ndarray, where: str) -> str:
    """`features: mfcc_mean_01 of track 7 is nan` for the first bad row; "" where none is."""
    if not bad.any():
        return ""
    i = int(np.flatnonzero(bad)[0])
    return f"{where}: {name} of track {table['track_id'][i].as_py()} is {table[name][i].as_py()}"
