"""Seven numbers that say how a feature is distributed over the frames of an excerpt."""

from __future__ import annotations

import numba
import numpy as np

FLAT = 1e-6  # a row that deviates less than this share of its largest value is constant: its moments are noise
_MEAN, _STD, _SKEW, _KURTOSIS, _MIN, _MAX = range(6)


def statistics(rows: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Summarise rows over their frames.

    numpy's mean, std, median, min and max, scipy.stats.skew and kurtosis (biased, excess), with moments in
    float64 in two passes. Skewness and kurtosis of a constant row are 0, where scipy has NaN.

    Parameters
    ----------
    rows : np.ndarray
        float32 (width, frames).
    names : tuple of str
        Of `registry.STATISTICS`.

    Returns
    -------
    np.ndarray
        float64 (len(names), width).

    Examples
    --------
    >>> statistics(np.array([[1, 2, 6]], np.float32), ("mean", "median", "max")).tolist()
    [[3.0], [2.0], [6.0]]
    """
    rows = np.ascontiguousarray(rows)
    found = np.empty((6, len(rows)))
    _moments(rows, found)
    every = dict(zip(("mean", "std", "skew", "kurtosis", "min", "max"), found, strict=True))
    if "median" in names:
        every["median"] = _median(rows)
    return np.stack([every[name] for name in names])


def _median(rows: np.ndarray) -> np.ndarray:
    """numpy.median(rows, axis=1), which spends most of its time looking for NaN."""
    n = rows.shape[1]
    half = n // 2
    if n % 2:
        return np.partition(rows, half, axis=1)[:, half]
    middle = np.partition(rows, (half - 1, half), axis=1)[:, half - 1 : half + 1]
    return middle.mean(axis=1, dtype=np.float64)


@numba.njit(cache=True, fastmath={"contract", "nsz", "arcp", "reassoc"}, error_model="numpy")
def _moments(rows, out):  # type: ignore[no-untyped-def]
    """Mean, population standard deviation, skewness, excess kurtosis, minimum, maximum of each row."""
    n = rows.shape[1]
    for r in range(rows.shape[0]):
        total, low, high = 0.0, rows[r, 0], rows[r, 0]
        for t in range(n):
            x = rows[r, t]
            total += x
            low = min(low, x)
            high = max(high, x)
        mean = total / n
        second, third, fourth = 0.0, 0.0, 0.0
        for t in range(n):
            d = rows[r, t] - mean
            square = d * d
            second += square
            third += square * d
            fourth += square * square
        second, third, fourth = second / n, third / n, fourth / n
        out[_MEAN, r], out[_STD, r], out[_MIN, r], out[_MAX, r] = mean, np.sqrt(second), low, high
        flat = np.sqrt(second) <= FLAT * max(abs(low), abs(high))
        out[_SKEW, r] = 0.0 if flat else third / second**1.5
        out[_KURTOSIS, r] = 0.0 if flat else fourth / (second * second) - 3.0
