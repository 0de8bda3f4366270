"""A CSV parser for plain numbers and nothing else, for tables of a gigabyte: about four times as fast as a general one.

It reads cells such as `-12.0345`, `7`, `1.5e-05` or nothing. At anything else (a quote, a word, a row of another
length, more digits than 18) it gives up on the block, and the caller reads that block with pyarrow, whose rules and
messages are the ones that count. Values are within one unit of float32 of the decimal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import pyarrow as pa

SKIPPED, ID = -1, -2  # what a column may be besides the position of its feature
_COMMA, _DOT, _LINE, _RETURN, _QUOTE, _MINUS, _PLUS = (ord(c) for c in ',.\n\r"-+')
_ZERO, _NINE, _SMALL_E, _LARGE_E = (ord(c) for c in "09eE")
_MAX_DIGITS = 18
_POWERS = 10.0 ** np.arange(23)  # exact in a double


def parse(lines: bytes, columns: int, key: int, numeric: Sequence[int]) -> list[pa.Array] | None:
    """The id column (int64) and the `numeric` ones (float32, NaN for an empty cell) of whole lines of a CSV file.

    None where a cell is anything but a plain number.
    """
    if not lines.endswith(b"\n"):
        lines += b"\n"
    role = np.full(columns, SKIPPED, np.int64)
    role[list(numeric)] = np.arange(len(numeric))
    role[key] = ID
    values = np.empty((len(numeric), lines.count(b"\n")), np.float32)
    ids = np.empty(values.shape[1], np.int64)
    rows = _parse(np.frombuffer(lines, np.uint8), role, ids, values)
    return None if rows < 0 else [pa.array(ids[:rows]), *(pa.array(v) for v in values[:, :rows])]


@numba.njit(nogil=True, cache=True)
def _parse(data: np.ndarray, role: np.ndarray, ids: np.ndarray, values: np.ndarray) -> int:
    """Fill `ids` and `values`; the number of rows, or -1 at anything that is not a plain number."""
    at, row = 0, 0
    while at < len(data):
        for column in range(len(role)):
            start, what = at, role[column]
            if what == SKIPPED:
                while data[at] != _COMMA and data[at] != _LINE:
                    if data[at] == _QUOTE:
                        return -1
                    at += 1
            else:
                negative = data[at] == _MINUS
                if negative or data[at] == _PLUS:
                    at += 1
                mantissa, exponent, first = 0, 0, at
                while data[at] == _ZERO:  # zeros in front are no digits
                    at += 1
                seen, digits_from = at > first, at
                while _ZERO <= data[at] <= _NINE:
                    mantissa = mantissa * 10 + (data[at] - _ZERO)
                    at += 1
                digits = at - digits_from
                dot, decimals = data[at] == _DOT, 0
                if dot:
                    at += 1
                    first = at
                    if mantissa == 0:
                        while data[at] == _ZERO:
                            at += 1
                    digits_from = at
                    while _ZERO <= data[at] <= _NINE:
                        mantissa = mantissa * 10 + (data[at] - _ZERO)
                        at += 1
                    digits += at - digits_from
                    decimals = at - first
                if digits > _MAX_DIGITS:
                    return -1
                seen = seen or digits > 0 or decimals > 0
                if seen and (data[at] == _SMALL_E or data[at] == _LARGE_E):
                    at += 1
                    below = data[at] == _MINUS
                    if below or data[at] == _PLUS:
                        at += 1
                    first = at
                    while _ZERO <= data[at] <= _NINE and at - first < 4:
                        exponent = exponent * 10 + (data[at] - _ZERO)
                        at += 1
                    if at == first or what == ID:
                        return -1
                    exponent = -exponent if below else exponent
                exponent -= decimals
                if (not seen and (at != start or what == ID)) or abs(exponent) >= len(_POWERS):
                    return -1
                if what == ID:
                    if negative or dot:
                        return -1
                    ids[row] = mantissa
                elif not seen:
                    values[what, row] = np.nan
                else:
                    number = float(mantissa)
                    number = number * _POWERS[exponent] if exponent >= 0 else number / _POWERS[-exponent]
                    values[what, row] = -number if negative else number
                if data[at] == _RETURN:
                    at += 1
            last = column == len(role) - 1
            if data[at] != (_LINE if last else _COMMA):
                return -1
            at += 1
        row += 1
    return row
