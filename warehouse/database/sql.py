"""The files of `warehouse/sql`: views, macros, named queries; each begins with a comment on what it answers.

A view is one SELECT. `{source}` in it stands for the stored table of its name, and a line `-- column NAME: text` in its
comment describes a column that no schema describes. A macro is a CREATE MACRO statement.
"""

from __future__ import annotations

import functools
import itertools
import re
from importlib import resources

_FOLDER = resources.files("warehouse").joinpath("sql")
_COLUMN = re.compile(r"^-- column (\w+): (.*)$", re.MULTILINE)


@functools.cache
def read_sql(name: str) -> str:
    """The text of a file.

    Parameters
    ----------
    name : str
        Path below `warehouse/sql` without suffix, such as `views/tracks`.

    Returns
    -------
    str
    """
    return _FOLDER.joinpath(f"{name}.sql").read_text("utf-8")


def sql_names(folder: str) -> list[str]:
    """Names of the files in a folder.

    Parameters
    ----------
    folder : str
        views, macros, queries or portable.

    Returns
    -------
    list of str
        Sorted, without suffix.

    Examples
    --------
    >>> sql_names("macros")[:2]
    ['duplicates', 'feature_drift']
    """
    files = (path.name for path in _FOLDER.joinpath(folder).iterdir())
    return sorted(name.removesuffix(".sql") for name in files if name.endswith(".sql"))


def head(name: str) -> list[str]:
    """The lines of the comment on top of a file, without their dashes.

    Parameters
    ----------
    name : str
        As for `read_sql`.

    Returns
    -------
    list of str
    """
    lines = itertools.takewhile(lambda line: line.startswith("--"), read_sql(name).splitlines())
    return [line.removeprefix("--").strip() for line in lines]


def summary(name: str) -> str:
    """The first sentence of the comment on top of a file; the rest is for who reads the file.

    Parameters
    ----------
    name : str
        As for `read_sql`.

    Returns
    -------
    str

    Examples
    --------
    >>> summary("views/tracks")
    'The catalog joined with what was measured: one row per track, measured or not.'
    """
    return re.split(r"(?<=[.?]) ", " ".join(line for line in head(name) if not line.startswith("column ")))[0]


def described_columns(view: str) -> dict[str, str]:
    """Descriptions of the columns that the file of a view describes itself.

    Parameters
    ----------
    view : str
        Its name.

    Returns
    -------
    dict
        {column: what it means}.
    """
    return dict(_COLUMN.findall(read_sql(f"views/{view}")))


def literal(text: str) -> str:
    """Write a text as a SQL string.

    Parameters
    ----------
    text : str

    Returns
    -------
    str

    Examples
    --------
    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Write a name as a quoted SQL identifier.

    Parameters
    ----------
    name : str

    Returns
    -------
    str

    Examples
    --------
    >>> print(identifier('the "best" of'))
    "the ""best"" of"
    """
    return '"' + name.replace('"', '""') + '"'
