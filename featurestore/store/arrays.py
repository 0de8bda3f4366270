"""How arrays become bytes in the store and come back: the mel spectrogram and the waveform window.

Twin functions: `encode_mel`/`decode_mel`, `encode_wave`/`decode_wave`. All bytes are little-endian.
"""

from __future__ import annotations

import numpy as np

TOP_DB = 80.0
_UINT8_STEP = TOP_DB / 255.0


def encode_mel(mel: np.ndarray, dtype: str) -> bytes:
    """Bytes of a mel spectrogram (n_mels, n_frames) in dB, band-major.

    float16 keeps it within 0.03 dB, float32 exactly. uint8 spreads the 80 dB below the spectrogram's maximum over
    256 steps (within 0.16 dB); four bytes in front hold that maximum as float32.
    """
    if dtype == "uint8":
        top = np.float32(mel.max(initial=-np.inf) if mel.size else 0.0)
        steps = np.rint((mel - (top - TOP_DB)) / _UINT8_STEP)
        return top.astype("<f4").tobytes() + np.clip(steps, 0, 255).astype(np.uint8).tobytes()
    return np.ascontiguousarray(mel, dtype={"float16": "<f2", "float32": "<f4"}[dtype]).tobytes()


def decode_mel(data: bytes | memoryview, dtype: str, n_mels: int) -> np.ndarray:
    """The float32 dB values (n_mels, n_frames) that `encode_mel` wrote.

    Raises ValueError where the bytes do not hold whole frames of `n_mels` bands.
    """
    if dtype == "uint8":
        top = np.frombuffer(data, "<f4", count=1)[0]
        flat = np.frombuffer(data, np.uint8, offset=4).astype(np.float32)
        flat *= np.float32(_UINT8_STEP)
        flat += np.float32(top - TOP_DB)
    else:
        flat = np.frombuffer(data, {"float16": "<f2", "float32": "<f4"}[dtype]).astype(np.float32)
    if flat.size % n_mels:
        raise ValueError(f"mel of {flat.size} values is not a whole number of frames of {n_mels} bands")
    return flat.reshape(n_mels, -1)


def encode_wave(y: np.ndarray, n_samples: int) -> tuple[bytes, float]:
    """Bytes and scale of the central `n_samples` samples of y (float, full scale), as int16.

    The scale keeps samples above full scale (decoded MP3s have them): y == int16 * scale within scale / 2.
    """
    start = max(0, (len(y) - n_samples) // 2)
    window = np.asarray(y[start : start + n_samples], dtype=np.float64)
    scale = np.float32(max(1.0, float(np.abs(window).max(initial=0.0))) / 32767.0)
    integers = np.clip(np.rint(window / scale), -32767, 32767).astype("<i2")
    return integers.tobytes(), float(scale)


def decode_wave(data: bytes | memoryview, scale: float) -> np.ndarray:
    """The float32 samples (n,) at full scale that `encode_wave` wrote."""
    return np.frombuffer(data, "<i2").astype(np.float32) * np.float32(scale)
