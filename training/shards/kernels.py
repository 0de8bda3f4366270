"""Compiled inner loops of the export: images, 16-bit and 8-bit values, sums. All exact to the order written here.

No loop is compiled with relaxed arithmetic, so its bytes do not depend on the processor's vector width or on whether
it fuses multiplication and addition.
"""

from __future__ import annotations

import numba
import numpy as np

KERNEL = numba.njit(cache=True, nogil=True, error_model="numpy")


@KERNEL
def from_halves(halves: np.ndarray, bits: np.ndarray, out: np.ndarray) -> None:
    """Turn float16 numbers into float32.

    Parameters
    ----------
    halves : ndarray of uint16, shape (n,)
        The bits of the float16 numbers.
    bits : ndarray of uint32, shape (n,)
        The memory of `out`, as bits.
    out : ndarray of float32, shape (n,)
        Receives the values.
    """
    for i in range(len(halves)):
        h = np.uint32(halves[i])
        size = (h & np.uint32(0x7FFF)) << np.uint32(13)
        # infinity and what is no number have an exponent of ones, and keep it
        size = size | np.uint32(0x7F800000) if size >= np.uint32(0x7C00 << 13) else size
        bits[i] = size | (h & np.uint32(0x8000)) << np.uint32(16)
    for i in range(len(out)):
        out[i] *= np.float32(2.0**112)  # the exponent's bias goes from 15 to 127, exactly


@KERNEL
def resample(
    source: np.ndarray,
    row_first: np.ndarray,
    row_weights: np.ndarray,
    column_first: np.ndarray,
    column_weights: np.ndarray,
    out: np.ndarray,
) -> None:
    """Make an image of weighted means of a spectrogram.

    Parameters
    ----------
    source : ndarray of float32, shape (frames, bands)
    row_first : ndarray of uint32, shape (height,)
        The first frame that each row of the image weighs.
    row_weights : ndarray of float32, shape (height, taps)
        The weights of that frame and of those after it.
    column_first : ndarray of uint32, shape (width,)
        The first band that each column weighs.
    column_weights : ndarray of float32, shape (taps, width)
        The weights of that band and of those after it.
    out : ndarray of float32, shape (height, width)
        Receives the image.
    """
    line = np.empty(source.shape[1], np.float32)
    for t in range(len(out)):
        line[:] = 0
        for k in range(row_weights.shape[1]):
            weight, frame = row_weights[t, k], source[row_first[t] + k]
            for b in range(len(line)):
                line[b] += weight * frame[b]
        row = out[t]
        row[:] = 0
        for k in range(len(column_weights)):
            weights = column_weights[k]
            for c in range(len(row)):
                row[c] += weights[c] * line[column_first[c] + k]


@KERNEL
def to_halves(values: np.ndarray, bits: np.ndarray, out: np.ndarray) -> None:
    """Round float32 numbers to the nearest float16, ties to even.

    Source: IEEE 754-2008, binary16. Beyond 65,519 is infinity, below 2**-14 are steps of 2**-24.

    Parameters
    ----------
    values : ndarray of float32, shape (n,)
    bits : ndarray of uint32, shape (n,)
        The memory of `values`, as bits.
    out : ndarray of uint16, shape (n,)
        Receives the bits of the float16 numbers.
    """
    for i in range(len(values)):
        sign = (bits[i] >> np.uint32(16)) & np.uint32(0x8000)
        size = bits[i] & np.uint32(0x7FFFFFFF)
        # the exponent's bias goes from 127 to 15; half of the last place, less one where it is even, rounds
        normal = (
            size - np.uint32(112 << 23) + np.uint32(0xFFF) + ((size >> np.uint32(13)) & np.uint32(1))
        ) >> np.uint32(13)
        tiny = np.uint32(np.rint(min(abs(values[i]), np.float32(2.0**-14)) * np.float32(2.0**24)))
        finite = tiny if size < np.uint32(113 << 23) else normal
        huge = np.uint32(0x7E00) if size > np.uint32(0x7F800000) else np.uint32(0x7C00)
        out[i] = sign | (finite if size < np.uint32(0x477FF000) else huge)


@KERNEL
def to_steps(values: np.ndarray, low: np.float32, per_step: np.float32, out: np.ndarray) -> None:
    """Turn values into steps of one byte: (values - low) * per_step, rounded and clipped.

    Parameters
    ----------
    values : ndarray of float32, shape (n,)
    low, per_step : float32
        The value of step 0, and the steps in one unit.
    out : ndarray of uint8, shape (n,)
        Receives the steps.
    """
    for i in range(len(values)):
        out[i] = np.uint8(min(max(np.rint((values[i] - low) * per_step), np.float32(0)), np.float32(255)))


@KERNEL
def add_sums(values: np.ndarray, total: np.ndarray, squares: np.ndarray) -> None:
    """Add the columns of values, and their squares, to two sums.

    Parameters
    ----------
    values : ndarray of float32, shape (rows, n)
    total, squares : ndarray of float64, shape (n,)
        The sums, added to in place.
    """
    for row in values:
        for j in range(len(row)):
            v = np.float64(row[j])
            total[j] += v
            squares[j] += v * v
