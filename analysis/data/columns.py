"""Which feature a column belongs to: `mfcc_mean_01` to `mfcc`, also in tables that others named."""

from __future__ import annotations

import re
from collections.abc import Sequence

from featurestore import registry

_SUFFIXES = re.compile(r"(?<=.)(_(mean|var|std|median|min|max|skew|kurtosis|value|\d+))+$")
_NUMBERED = re.compile(r"\d+(_(mean|var|std))?$")


def column_group(name: str) -> str:
    """The feature that a column belongs to.

    Parameters
    ----------
    name : str
        Column of a feature set, ours or imported.

    Returns
    -------
    str
        Our own feature where the name is ours; otherwise the name without statistics and numbers at its end.
    """
    if parsed := registry.parse_column(name):
        return parsed[0]
    name = _SUFFIXES.sub("", name)
    return _NUMBERED.sub("", name) or name


def column_groups(columns: Sequence[str]) -> dict[str, list[int]]:
    """Column positions by feature.

    Parameters
    ----------
    columns : sequence of str
        Columns of a feature set.

    Returns
    -------
    dict of list of int
        In order of first appearance.
    """
    out: dict[str, list[int]] = {}
    for j, name in enumerate(columns):
        out.setdefault(column_group(name), []).append(j)
    return out
