"""Compiled inner loops of the export: images, 16-bit and 8-bit values, sums. All exact to the order written here.

No loop is compiled with relaxed arithmetic, so its bytes do not depend on the processor's vector width or on whether
it fuses multiplication and addition.
"""

from __future__ import annotations

import numba
import numpy as np

ROWS = 8  # of an image in one pass: what they need of the spectrogram stays in the L1 cache
LANES = 8  # bands turned together
GROUP = 4  # weights applied in one sweep over the bands

KERNEL = numba.njit(cache=True, nogil=True, error_model="numpy")


@KERNEL
def _turn(source: np.ndarray, first: int, last: int, turned: np.ndarray) -> None:
    """turned[:last - first] (frames, bands) = source[:, first:last].T"""
    whole = len(source) - len(source) % LANES
    for b in range(0, whole, LANES):
        for f in range(first, last):
            for j in range(LANES):  # a run of stores: three times as fast as one by one down a column
                turned[f - first, b + j] = source[b + j, f]
    for b in range(whole, len(source)):
        for f in range(first, last):
            turned[f - first, b] = source[b, f]


@KERNEL
def _mix_frames(turned: np.ndarray, at: np.ndarray, weights: np.ndarray, lines: np.ndarray) -> None:
    """lines (rows, bands): row t is the sum of turned[at[t] + k] * weights[t, k] over k."""
    for t in range(len(weights)):
        line = lines[t]
        line[:] = 0
        for k in range(0, weights.shape[1], GROUP):
            w0, w1, w2, w3 = weights[t, k], weights[t, k + 1], weights[t, k + 2], weights[t, k + 3]
            i = at[t] + k
            r0, r1, r2, r3 = turned[i], turned[i + 1], turned[i + 2], turned[i + 3]
            for b in range(len(line)):
                line[b] += (w0 * r0[b] + w1 * r1[b]) + (w2 * r2[b] + w3 * r3[b])


@KERNEL
def _mix_bands(lines: np.ndarray, at: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """out (rows, width): column c is the sum of lines[:, at[c] + k] * weights[k, c] over k."""
    for t in range(len(out)):
        line, row = lines[t], out[t]
        row[:] = 0
        for k in range(len(weights)):
            shares = weights[k]
            for c in range(len(row)):
                row[c] += shares[c] * line[at[c] + k]


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
    """out float32 (height, width) = weighted means of source (bands, frames); rows are time, columns bands.

    source is float32, or uint16 and then the bits of float16. Weights are float32.

    Row t weighs the frames from row_first[t] on with row_weights[t] (taps, a multiple of GROUP; those beyond the last
    frame must be zero); column c weighs the bands from column_first[c] on with column_weights[:, c].
    """
    bands, frames = source.shape
    height = len(out)
    taps = row_weights.shape[1]
    longest = 0
    for top in range(0, height, ROWS):
        longest = max(longest, row_first[min(top + ROWS, height) - 1] + taps - row_first[top])
    turned = np.zeros((longest, bands), np.float32)
    lines = np.empty((ROWS, bands), np.float32)
    halves = np.zeros((longest, bands), np.uint16)
    for top in range(0, height, ROWS):
        bottom = min(top + ROWS, height)
        first = row_first[top]
        last = min(frames, row_first[bottom - 1] + taps)
        if source.itemsize == 2:
            _turn(source, first, last, halves)
            from_halves(halves.reshape(-1), turned.view(np.uint32).reshape(-1), turned.reshape(-1))
        else:
            _turn(source, first, last, turned)
        _mix_frames(turned, row_first[top:bottom] - first, row_weights[top:bottom], lines)
        _mix_bands(lines, column_first, column_weights, out[top:bottom])


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
