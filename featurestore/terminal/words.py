"""Words for people: text that is safe to show, a line on standard error, and a few names that stand for many.

Text from data (titles, paths, column names, what a library says of them) may hold anything. People get it through
`printable`; files for programs (csv, json, parquet) keep it as it is.
"""

from __future__ import annotations

import sys
import unicodedata

MAX_EXAMPLES = 3
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats (bidi), lone surrogates, separators of lines
_JOINERS = "\u200c\u200d"  # Persian words and emoji need them, and they move nothing


def printable(text: str, keep: str = "") -> str:
    r"""Spell out the characters that a terminal would obey instead of showing.

    Parameters
    ----------
    text : str
    keep : str
        Characters that stay in any case, such as the line breaks of a message.

    Returns
    -------
    str

    Examples
    --------
    >>> printable("Blue\x1b[2J Monday")
    'Blue\\x1b[2J Monday'
    """
    if text.isprintable():
        return text
    unsafe = {c for c in text if c not in _JOINERS + keep and unicodedata.category(c) in _UNSAFE}
    return text.translate({ord(c): c.encode("unicode_escape").decode() for c in unsafe})


def note(message: str) -> None:
    """Print a line for people on standard error, so that standard output stays data.

    Parameters
    ----------
    message : str
        It may hold anything; its line breaks and tabs stay.
    """
    print(printable(message, keep="\n\t"), file=sys.stderr, flush=True)


def examples(names: list[str]) -> str:
    """Name a few of many, safe to show: `3 (a, b, c)` or `120 (a, b, c, ...)`.

    Parameters
    ----------
    names : list of str

    Returns
    -------
    str

    Examples
    --------
    >>> examples(["b.mp3", "a.mp3"])
    '2 (a.mp3, b.mp3)'
    """
    shown = ", ".join(map(printable, sorted(names)[:MAX_EXAMPLES])) + (", ..." if len(names) > MAX_EXAMPLES else "")
    return f"{len(names)} ({shown})"
