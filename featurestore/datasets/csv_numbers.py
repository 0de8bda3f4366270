"""A CSV parser for plain numbers and nothing else, for tables of a gigabyte: five times as fast as pyarrow's.

It reads cells such as `-12.0345`, `7`, `1.5e-05` or nothing. At anything else (a quote, a word, a row of another
length, more digits than 18) it gives up on the block, and the caller reads that block with pyarrow, whose rules and
messages are the ones that count. Values are the float32 nearest to the decimal, as pyarrow's are.

Most cells never meet a loop over characters: eight of them are one 64-bit word, in which a delimiter is found, and
whose digits become a number, by a handful of operations (D. Lemire, Number parsing at a gigabyte per second, 2021).
The decimal is then the quotient or product of two doubles, whose error is known (after W. Clinger, How to read
floating point numbers accurately, 1990); the rare one too near the middle of two float32 for that is left to pyarrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

SKIPPED, ID = -1, -2  # what a column may be besides the position of its feature
_COMMA, _DOT, _LINE, _RETURN, _QUOTE, _MINUS, _PLUS = (ord(c) for c in ',.\n\r"-+')
_ZERO, _NINE, _SMALL_E, _LARGE_E = (ord(c) for c in "09eE")
_MAX_DIGITS = 18
_POWERS = np.array([float(f"1e{n}") for n in range(38)])  # divided by these nothing leaves the normal float32
_SIGNED = np.array([_POWERS, -_POWERS])
_EXACT = 2**53  # whole numbers up to here are
_NO = -1  # in place of a position: not a plain number

# Words are unsigned: numba makes a float of a signed and an unsigned number.
_U = np.uint64
_0, _1, _3, _4, _8, _10, _16, _32, _64 = (_U(n) for n in (0, 1, 3, 4, 8, 10, 16, 32, 64))
_BYTE, _ONES, _HIGH = _U(0xFF), _U(0x0101010101010101), _U(0x8080808080808080)
_COMMAS, _LINES, _DOTS, _ZEROS = (_U(c) * _ONES for c in (_COMMA, _LINE, _DOT, _ZERO))
_OVER_NINE = _U(0x80 - 10) * _ONES  # takes a byte above nine to its high bit
_LAST_BYTES = np.array([(2**64 - 1) ^ (2 ** (64 - 8 * n) - 1) for n in range(9)], np.uint64)  # masks, by their number
_TENS = _10 ** np.arange(19, dtype=np.uint64)
_REACH = _U(24)  # bytes that a word read for a cell may lie behind its first
_DIGITS, _E, _TEN_TO_8 = _U(_MAX_DIGITS), _U(_SMALL_E), _U(10**8)


def parse(
    lines: bytes | memoryview, columns: int, key: int, numeric: Sequence[int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Of whole lines of a CSV file the id column, (rows,) int64, and the `numeric` ones, (len(numeric), rows) float32
    with NaN for an empty cell.

    None where a cell is anything but a plain number.
    """
    data = np.frombuffer(lines, np.uint8)
    if data[-1] != _LINE:
        data = np.append(data, np.uint8(_LINE))
    role = np.full(columns, SKIPPED, np.int64)
    role[list(numeric)] = np.arange(len(numeric))
    role[key] = ID
    ids = np.empty(np.count_nonzero(data == _LINE), np.int64)
    values = np.empty((len(numeric), len(ids)), np.float32)
    return (ids, values) if _parse(data, role, ids, values) == len(ids) else None


def _make_word(typing_context: Any, data: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(start, [args[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return numba.types.uint64(data, numba.types.uint64), generate


def _make_low_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return numba.types.uint64(numba.types.uint64), generate


# (data, at): the eight bytes of `data` from `at` (unsigned), the first one lowest
_word: Any = intrinsic(_make_word)
# (word): how many zero bits are below its lowest one; 64 where there is none
_low_zeros: Any = intrinsic(_make_low_zeros)


@numba.njit(nogil=True)
def _found(word: Any, pattern: Any) -> Any:
    """Has the high bit of every byte in which the two are equal, up to the first such byte."""
    difference = word ^ pattern
    return (difference - _ONES) & ~difference & _HIGH


@numba.njit(nogil=True)
def _number(digits: Any) -> Any:
    """The number that eight digits make, one a byte, the first one lowest."""
    pairs = digits * _10 + (digits >> _8)
    mask = _U(0x000000FF000000FF)
    return ((pairs & mask) * _U(0x000F424000000064) + ((pairs >> _16) & mask) * _U(0x0000271000000001)) >> _32


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _parse(data: np.ndarray, role: np.ndarray, ids: np.ndarray, values: np.ndarray) -> int:
    """Fill `ids` and `values`; the number of rows, or -1 at anything that is not a plain number."""
    at, size, row, last = _0, _U(len(data)), 0, len(role) - 1
    while at < size:
        for column in range(len(role)):
            what, after = role[column], _0
            if what >= 0 and at >= _16 and at + _REACH <= size:
                value, after = _short(data, at, _LINES if column == last else _COMMAS)
                if after:
                    values[what, row] = value
                    at = after
            if not after:
                end = _long(data, np.int64(at), what, row, ids, values)
                if end == _NO or data[end] != (_LINE if column == last else _COMMA):
                    return _NO
                at = _U(end + 1)
        row += 1
    return row


@numba.njit(inline="always", error_model="numpy")
def _short(data: np.ndarray, at: Any, delimiters: Any) -> Any:
    """(value, where the next cell begins) of the cell at `at`; 0 for the latter if it has not the usual form: up to
    seven digits, up to sixteen decimals, an exponent of two digits."""
    word, end = _word(data, at), at
    found = _found(word, delimiters)
    if not found:
        end = at + _8
        found = _found(_word(data, end), delimiters)
        if not found:
            end = at + _16
            found = _found(_word(data, end), delimiters)
            if not found:
                return np.float32(0), _0
    end += _low_zeros(found) >> _3
    after = end + _1
    if end == at:
        return np.float32(np.nan), after
    negative = _U(word & _BYTE == _U(_MINUS))
    start = at + negative
    tail = _word(data, end - _8)
    exponent = np.int64(0)
    if end >= start + _U(5) and tail >> _32 & _BYTE == _E:
        sign, tens, ones = tail >> _U(40) & _BYTE, (tail >> _U(48) & _BYTE) - _U(_ZERO), (tail >> _U(56)) - _U(_ZERO)
        if (sign != _U(_MINUS) and sign != _U(_PLUS)) or tens > _U(9) or ones > _U(9):
            return np.float32(0), _0
        exponent = np.int64(tens * _10 + ones)
        exponent = -exponent if sign == _U(_MINUS) else exponent
        end -= _4
        tail = _word(data, end - _8)
    head = _word(data, start)
    whole = _low_zeros(_found(head, _DOTS)) >> _3
    decimals = end - start - whole - _1
    if whole >= end - start:
        whole, decimals = end - start, _0
    elif whole == _8:
        return np.float32(0), _0
    if whole == _0 or decimals > _16 or whole + decimals > _DIGITS:
        return np.float32(0), _0
    low = min(decimals, _8)
    first = (head ^ _ZEROS) << (_64 - _8 * whole)
    second = (_word(data, end - _16) ^ _ZEROS) & _LAST_BYTES[decimals - low]
    third = (tail ^ _ZEROS) & _LAST_BYTES[low]
    odd = first | second | third | (first + _OVER_NINE) | (second + _OVER_NINE) | (third + _OVER_NINE)
    mantissa = np.int64(_number(first) * _TENS[decimals] + _number(second) * _TEN_TO_8 + _number(third))
    value, sure = _scaled(mantissa, exponent - np.int64(decimals), negative)
    return value, after if sure and not odd & _HIGH else _0


@numba.njit(inline="always", error_model="numpy")
def _scaled(mantissa: Any, exponent: Any, negative: Any) -> Any:
    """(±mantissa * 10 ** exponent as float32, whether that is certainly the nearest one)."""
    if exponent <= 0:
        if exponent <= -len(_POWERS):
            return np.float32(0), False
        number = np.float64(mantissa) / _SIGNED[negative, -exponent]
    else:
        if exponent >= len(_POWERS):
            return np.float32(0), False
        number = np.float64(mantissa) * _SIGNED[negative, exponent]
    # three roundings at most, of 2 ** -53 each: the decimal is between these
    value, above = np.float32(number * (1 - 2.0**-50)), np.float32(number * (1 + 2.0**-50))
    if value == above:
        return value, abs(value) < np.inf
    # One rounding does not move a decimal over the middle of two float32, nor one of few decimals into it: a middle has
    # 25 bits, so that others of n decimals are 5 ** -n units of its last bit off or more, and 5 ** 12 is below 2 ** 28.
    return np.float32(number), mantissa <= _EXACT and -12 <= exponent <= 0


@numba.njit(nogil=True)
def _long(data: np.ndarray, at: Any, what: int, row: int, ids: np.ndarray, values: np.ndarray) -> int:
    """Read the cell at `at` character by character; the place of the delimiter behind it, or -1."""
    start = at
    if what == SKIPPED:
        while data[at] != _COMMA and data[at] != _LINE:
            if data[at] == _QUOTE:
                return _NO
            at += 1
        return at
    negative = data[at] == _MINUS
    if negative or data[at] == _PLUS:
        at += 1
    mantissa, decimals, digits, from_zero = 0, 0, 0, at
    while _is_digit(data[at]):
        mantissa = mantissa * 10 + (data[at] - _ZERO)
        digits += mantissa != 0  # zeros in front do not count
        at += 1
    seen = at - from_zero
    dot = data[at] == _DOT
    if dot:
        at += 1
        from_zero = at
        while _is_digit(data[at]):
            mantissa = mantissa * 10 + (data[at] - _ZERO)
            digits += mantissa != 0
            at += 1
        decimals = at - from_zero
    seen += decimals
    if digits > _MAX_DIGITS:
        return _NO
    exponent = 0
    if seen and (data[at] == _SMALL_E or data[at] == _LARGE_E):
        at += 1
        below = data[at] == _MINUS
        if below or data[at] == _PLUS:
            at += 1
        from_zero = at
        while _is_digit(data[at]) and at - from_zero < 4:
            exponent = exponent * 10 + (data[at] - _ZERO)
            at += 1
        if at == from_zero or what == ID:
            return _NO
        exponent = -exponent if below else exponent
    if what == ID:
        if negative or dot or not seen:
            return _NO
        ids[row] = mantissa
    elif seen:
        value, sure = _scaled(mantissa, exponent - decimals, _U(negative))
        if not sure:
            return _NO
        values[what, row] = value
    elif at == start:
        values[what, row] = np.nan
    else:
        return _NO
    return at + 1 if data[at] == _RETURN else at


@numba.njit(nogil=True)
def _is_digit(character: int) -> bool:
    return _ZERO <= character <= _NINE
