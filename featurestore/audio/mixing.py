"""Channels to mono, and what only the channels themselves can tell."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, fastmath={"contract", "nsz", "arcp"}, error_model="numpy")
def mix(block, full_scale):  # type: ignore[no-untyped-def]
    """Mean of the channels (librosa.to_mono), and what only the channels can tell.

    Parameters
    ----------
    block : np.ndarray
        float32 (n, channels).
    full_scale : np.float32
        From here on a sample counts as clipped.

    Returns
    -------
    tuple of (np.ndarray, int, int)
        float32 (n,); samples of any channel at or beyond full scale; mixed samples that are not finite.
    """
    frames, channels = block.shape
    flat = block.ravel()
    mono = np.empty(frames, np.float32)
    if channels == 2:
        for t in range(frames):
            mono[t] = (flat[2 * t] + flat[2 * t + 1]) * np.float32(0.5)
    else:
        for t in range(frames):
            total = np.float32(0)
            for c in range(channels):
                total += block[t, c]
            mono[t] = total / np.float32(channels)
    clipped, broken = 0, 0
    for i in range(flat.shape[0]):
        clipped += abs(flat[i]) >= full_scale
    for t in range(frames):
        broken += not (abs(mono[t]) < np.inf)
    return mono, clipped, broken
