"""How a genre is spelt: the one rule, for every collection whose genres are names that people typed.

Names that differ only in case, in Unicode form (NFC, NFD) or in white space are one genre, and it is shown as most
files spell it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable


def unify(names: Iterable[str]) -> dict[str, str]:
    """The spelling to show for each spelling met.

    Parameters
    ----------
    names : iterable of str
        A name for each time that it was met.

    Returns
    -------
    dict of str to str
        For each distinct name the most common spelling of its genre, in NFC and with single spaces; of equally common
        ones the first in the alphabet. A name of white space only becomes "".

    Examples
    --------
    >>> unify(["Rock", "rock", "Rock ", "Hip  Hop"])
    {'Rock': 'Rock', 'rock': 'Rock', 'Rock ': 'Rock', 'Hip  Hop': 'Hip Hop'}
    """
    counts = Counter(names)
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name, count in counts.items():
        spellings[_tidy(name).casefold()][_tidy(name)] += count
    shown = {key: min(found, key=lambda s: (-found[s], s)) for key, found in spellings.items()}
    return {name: shown[_tidy(name).casefold()] for name in counts}


def _tidy(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())
