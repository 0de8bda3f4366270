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
    """out float32 (n,) = the values of the float16 bits `halves` uint16 (n,); `bits` are those of out, uint32."""
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
    """out float32 (height, width) = weighted means of source float32 (frames, bands).

    Row t weighs the frames from row_first[t] on with row_weights[t], float32 (taps,); column c weighs the bands from
    column_first[c] on with column_weights[:, c].
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
    """out uint16 (n,): the float16 bits nearest to `values` float32 (n,), ties to even; `bits` are theirs, uint32.

    Source: IEEE 754-2008, binary16. Beyond 65,519 is infinity, below 2**-14 are steps of 2**-24.
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
    """out uint8 (n,) = (values float32 (n,) - low) * per_step, rounded and clipped."""
    for i in range(len(values)):
        out[i] = np.uint8(min(max(np.rint((values[i] - low) * per_step), np.float32(0)), np.float32(255)))


@KERNEL
def add_sums(values: np.ndarray, total: np.ndarray, squares: np.ndarray) -> None:
    """Add the columns of `values` float32 (rows, n) and their squares to total and squares, float64 (n,)."""
    for row in values:
        for j in range(len(row)):
            v = np.float64(row[j])
            total[j] += v
            squares[j] += v * v
