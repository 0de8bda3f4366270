"""How arrays become bytes in the store and come back: the mel spectrogram and the waveform window.

Twin functions: `encode_mel`/`decode_mel`, `encode_wave`/`decode_wave`. All bytes are little-endian.
"""

from __future__ import annotations

import numpy as np


def encode_mel(mel: np.ndarray) -> bytes:
    """Bytes of a mel spectrogram: half-precision floats, which keep it within 0.03 dB.

    Parameters
    ----------
    mel : np.ndarray
        (n_mels, n_frames) in dB.

    Returns
    -------
    bytes
        2 * n_mels * n_frames of them, band after band.
    """
    return np.ascontiguousarray(mel, dtype="<f2").tobytes()


def decode_mel(data: bytes | memoryview, n_mels: int) -> np.ndarray:
    """The mel spectrogram that `encode_mel` wrote.

    Parameters
    ----------
    data : bytes or buffer
        What `encode_mel` returned.
    n_mels : int
        Number of bands.

    Returns
    -------
    np.ndarray
        float32 (n_mels, n_frames) in dB.

    Raises
    ------
    ValueError
        If the bytes do not hold whole frames of `n_mels` bands.

    Examples
    --------
    >>> decode_mel(encode_mel(np.full((2, 3), -40.0)), 2).shape
    (2, 3)
    """
    flat = np.frombuffer(data, "<f2").astype(np.float32)
    if flat.size % n_mels:
        raise ValueError(f"mel of {flat.size} values is not a whole number of frames of {n_mels} bands")
    return flat.reshape(n_mels, -1)


def encode_wave(y: np.ndarray, n_samples: int) -> tuple[bytes, float]:
    """Bytes and scale of the central window of a waveform, as int16.

    Parameters
    ----------
    y : np.ndarray
        (n,) samples; full scale is 1, and decoded MP3s go beyond it.
    n_samples : int
        Length of the window; a shorter waveform is taken whole.

    Returns
    -------
    tuple of (bytes, float)
        The integers, and what to multiply them by: within half of that scale they give the samples back.
    """
    start = max(0, (len(y) - n_samples) // 2)
    window = np.asarray(y[start : start + n_samples], dtype=np.float64)
    scale = np.float32(max(1.0, float(np.abs(window).max(initial=0.0))) / 32767.0)
    integers = np.clip(np.rint(window / scale), -32767, 32767).astype("<i2")
    return integers.tobytes(), float(scale)


def decode_wave(data: bytes | memoryview, scale: float) -> np.ndarray:
    """The waveform that `encode_wave` wrote.

    Parameters
    ----------
    data : bytes or buffer
        The integers that `encode_wave` returned.
    scale : float
        The scale that it returned.

    Returns
    -------
    np.ndarray
        float32 (n,); full scale is 1.

    Examples
    --------
    >>> decode_wave(*encode_wave(np.array([0.0, 1.0, -1.0]), 3)).tolist()
    [0.0, 1.0, -1.0]
    """
    return np.frombuffer(data, "<i2").astype(np.float32) * np.float32(scale)
