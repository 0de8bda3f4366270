"""Zero crossings, in the time domain."""

from __future__ import annotations

import numpy as np

from featurestore.extract.kernel import KERNEL

_THRESHOLD = np.float32(1e-10)  # librosa takes anything nearer to zero for zero


@KERNEL
def zero_crossing_rate(y, frame_length, hop):  # type: ignore[no-untyped-def]
    """Equal to librosa.feature.zero_crossing_rate(y, frame_length=, hop_length=).

    Parameters
    ----------
    y : np.ndarray
        float32 (n,) signal.
    frame_length, hop : int
        Samples of a frame, and between two frames.

    Returns
    -------
    np.ndarray
        float32 (1, frames): crossings per sample, 0 to 1.
    """
    n = y.shape[0]
    before = np.zeros(n + 1, np.int32)  # crossings among the first i samples
    for i in range(1, n):
        before[i + 1] = before[i] + np.int32((y[i - 1] < -_THRESHOLD) != (y[i] < -_THRESHOLD))
    frames = 1 + n // hop
    out = np.empty((1, frames), np.float32)
    for t in range(frames):
        start = t * hop - frame_length // 2
        end = min(n, start + frame_length)
        # the crossing into a frame's first sample is not its own; edge padding adds none
        out[0, t] = (before[end] - before[min(end, max(0, start) + 1)]) / frame_length
    return out
