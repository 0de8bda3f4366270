"""Golden values: what a fixed signal measures, kept in `store.json`, so that a library upgrade is noticed.

The signal goes the way of every file: 16-bit stereo WAV at 44.1 kHz -> libsndfile -> mono -> soxr -> features and
mel. A build measures it once more and compares before it decodes anything.
"""

from __future__ import annotations

import functools
import io
import itertools
import wave
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np

from featurestore import registry
from featurestore.errors import SpecMismatch
from featurestore.spec import Spec

LIBRARIES = ("numba", "numpy", "scipy", "soundfile", "soxr")
RATE = 44100
SECONDS = 3.0
# Machines differ in the last bits (vector width, FMA): measured below 1e-4 of a feature's own scale. A changed
# algorithm, window or filter moves values by more than 1e-3.
TOLERANCE = 1e-3
_SHOWN = 5


@functools.cache
def libraries() -> str:
    """The versions behind the values.

    Returns
    -------
    str
        `librosa 0.11.0, numba 0.60.0, ...`
    """
    return ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)


def signal() -> np.ndarray:
    """A chord with vibrato, a rising sweep, noise from integers, and four clicks.

    Returns
    -------
    np.ndarray
        int16 (n, 2): SECONDS at RATE.
    """
    n = int(RATE * SECONDS)
    t = np.arange(n) / RATE
    chord = sum(np.sin(2 * np.pi * f * t + 3 * np.sin(2 * np.pi * 5 * t)) for f in (220.0, 277.2, 329.6))
    sweep = np.sin(2 * np.pi * (200 * t + 1500 * t**2))
    # a 32-bit linear congruence (Numerical Recipes): the same numbers in every version of numpy
    states = itertools.accumulate(range(n), lambda state, _: (state * 1664525 + 1013904223) & 0xFFFFFFFF, initial=1)
    noise = np.fromiter(states, np.float64, n) / 2**31 - 1
    left = 0.15 * chord + 0.1 * sweep + 0.01 * noise
    right = 0.15 * chord + 0.05 * sweep - 0.01 * noise
    for start in range(RATE // 4, n, RATE * 3 // 4):
        left[start : start + 400] += 0.3 * np.hanning(400)
    return np.rint(np.stack([left, right], axis=1) * 32767).clip(-32768, 32767).astype("<i2")


@functools.cache
def measure(spec: Spec) -> dict[str, Any]:
    """Measure the signal, once in a process.

    Parameters
    ----------
    spec : Spec
        How.

    Returns
    -------
    dict
        {"libraries": versions, "values": {column: value}}; JSON-ready.
    """
    from featurestore import extract
    from featurestore.audio import decode

    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(signal().tobytes())
    file.seek(0)
    excerpt = decode.decode(file, spec)[0]
    found = extract.extract(excerpt.y, spec)
    names = registry.column_names(spec.groups)
    values = dict(zip(names, (float(f"{v:.7g}") for v in found.features), strict=True))
    bands = found.mel.mean(axis=1, dtype=np.float64)
    values |= {f"mel_band_{i + 1:03d}": float(f"{v:.7g}") for i, v in enumerate(bands)}
    return {"libraries": libraries(), "values": values}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Columns whose golden value moved.

    A difference counts from TOLERANCE of the feature's own scale: the largest stored value among its dimensions.

    Parameters
    ----------
    old, new : mapping
        Golden records.

    Returns
    -------
    list of str
        Largest first: `tempo_value_01: 120.2 stored, 117.5 now`.

    Examples
    --------
    >>> differences({"values": {"tempo_value_01": 120.0}}, {"values": {"tempo_value_01": 117.0}})
    ['tempo_value_01: 120 stored, 117 now']
    """
    a, b = old["values"], new["values"]
    scale: dict[str, float] = {}
    for name, value in a.items():
        scale[_feature(name)] = max(scale.get(_feature(name), 0.0), abs(value))
    moved = []
    for name in a.keys() | b.keys():
        if name not in a or name not in b:
            moved.append((np.inf, f"{name}: only {'stored' if name in a else 'now'}"))
            continue
        share = abs(a[name] - b[name]) / max(scale[_feature(name)], 1e-9)
        if not share <= TOLERANCE:
            moved.append((share, f"{name}: {a[name]:.6g} stored, {b[name]:.6g} now"))
    return [text for _, text in sorted(moved, key=lambda m: (-m[0], m[1]))]


def require(old: Mapping[str, Any], new: Mapping[str, Any], url: str) -> None:
    """Refuse libraries that give other values than the store's.

    Parameters
    ----------
    old, new : mapping
        Golden records of the store and of the libraries here.
    url : str
        The store, for the message.

    Raises
    ------
    SpecMismatch
        Naming columns and versions.
    """
    moved = differences(old, new)
    if not moved:
        return
    more = f"\n  ... and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
    raise SpecMismatch(
        f"the libraries here measure other values than those in store {url} ({len(moved)} of {len(old['values'])}):\n  "
        + "\n  ".join(moved[:_SHOWN])
        + f"{more}\n  store:  {old['libraries']}\n  here:   {new['libraries']}",
        "Install the store's versions, make a new store with --store PATH, or measure everything again with --force.",
    )


def _feature(name: str) -> str:
    # skewness of one feature is no scale for its mean, nor the level of one band for another's
    parsed = registry.parse_column(name)
    return f"{parsed[0]}_{parsed[1]}" if parsed else "mel"
