"""Named queries: the `.sql` files of `warehouse/sql/queries/`, with a question on top and typed-in parameters.

The comment on top of a file is its question; a line `-- param NAME: meaning` declares a parameter that must be given,
`-- param NAME = VALUE: meaning` one with a default. In the SQL a parameter is `$NAME`, cast to what it should be.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping

import pyarrow as pa

from featurestore.errors import UsageError
from featurestore.store.store import Store
from warehouse.database.sql import head, read_sql, sql_names

_PARAM = re.compile(r"^param (?P<name>\w+)(?: = (?P<default>.*?))?: (?P<meaning>.*)$")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of a named query; `default` None means that it must be given."""

    name: str
    meaning: str
    default: str | None


@dataclasses.dataclass(frozen=True)
class NamedQuery:
    """A question that has a name.

    Attributes
    ----------
    name : str
    question : str
        What it answers.
    parameters : tuple of Parameter
        What it takes: name, meaning and default of each.
    sql : str

    Examples
    --------
    >>> named_queries()[0].parameters
    (Parameter(name='scheme', meaning='split scheme: official, artist or random', default='official'),)
    """

    name: str
    question: str
    parameters: tuple[Parameter, ...]
    sql: str


def named_queries() -> tuple[NamedQuery, ...]:
    """All named queries, by name.

    Returns
    -------
    tuple of NamedQuery

    Examples
    --------
    >>> [query.name for query in named_queries()][:3]
    ['artists_across_splits', 'failures_by_kind', 'genre_of_file']
    """
    return tuple(_parse(name) for name in sql_names("queries"))


def _parse(name: str) -> NamedQuery:
    found = [match for match in map(_PARAM.match, head(f"queries/{name}")) if match]
    parameters = tuple(Parameter(m["name"], m["meaning"], m["default"]) for m in found)
    question = " ".join(line for line in head(f"queries/{name}") if not line.startswith("param "))
    return NamedQuery(name, question, parameters, read_sql(f"queries/{name}"))


def listing() -> pa.Table:
    """The named queries as a table.

    Returns
    -------
    pyarrow.Table
        query, question, parameters (all string).
    """
    queries = named_queries()
    return pa.table(
        {
            "query": [q.name for q in queries],
            "question": [q.question for q in queries],
            "parameters": [" ".join(_usage(p) for p in q.parameters) for q in queries],
        }
    )


def _usage(parameter: Parameter) -> str:
    return parameter.name + ("" if parameter.default is None else f"={parameter.default}")


def find(name: str) -> NamedQuery:
    """The query of a name.

    Parameters
    ----------
    name : str

    Returns
    -------
    NamedQuery

    Raises
    ------
    UsageError
        If there is none; it lists the names.
    """
    queries = {q.name: q for q in named_queries()}
    if name not in queries:
        raise UsageError(f"no named query {name!r}", f"Expected one of {', '.join(queries)}.")
    return queries[name]


def parse_parameters(texts: Iterable[str]) -> dict[str, str]:
    """Parameters from texts like `k=v`.

    Parameters
    ----------
    texts : iterable of str

    Returns
    -------
    dict
        {name: value}.

    Raises
    ------
    UsageError
        For a text without a name or a `=`, or a name given twice.

    Examples
    --------
    >>> parse_parameters(["a=Blues", "where=x=1"])
    {'a': 'Blues', 'where': 'x=1'}
    """
    out: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or name in out:
            wrong = "given twice" if name in out else "not NAME=VALUE"
            raise UsageError(f"parameter {text!r} is {wrong}", "Write --param NAME=VALUE once for each.")
        out[name] = value
    return out


def bind(query: NamedQuery, parameters: Mapping[str, str]) -> dict[str, str]:
    """All parameters of a query, with the defaults of those that were not given.

    Parameters
    ----------
    query : NamedQuery
    parameters : mapping of str to str
        Those that were given.

    Returns
    -------
    dict
        {name: value}.

    Raises
    ------
    UsageError
        For an unknown or a missing parameter.
    """
    known = {p.name: p for p in query.parameters}
    unknown = sorted(set(parameters) - set(known))
    missing = [p.name for p in query.parameters if p.default is None and p.name not in parameters]
    if unknown or missing:
        wrong = [f"unknown parameter {n!r}" for n in unknown] + [f"missing parameter {n!r}" for n in missing]
        takes = "; ".join(f"{_usage(p)}: {p.meaning}" for p in query.parameters) or "no parameters"
        raise UsageError(
            f"query {query.name}: {', '.join(wrong)}",
            f"It takes {takes}. Give them as `python -m warehouse run {query.name} --param NAME=VALUE`.",
        )
    return {p.name: parameters.get(p.name, p.default or "") for p in query.parameters}


def run_named(
    store: Store | str | os.PathLike[str], name: str, parameters: Mapping[str, str] | None = None
) -> pa.Table:
    """The rows of a named query.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    name : str
        One of `named_queries`.
    parameters : mapping of str to str, optional
        Values of its parameters.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    UsageError
        For an unknown name, and an unknown or a missing parameter.
    FeatureStoreError
        As `query` does.

    Examples
    --------
    >>> run_named(store, "loudest_and_quietest", {"k": "1"}).column_names[:3]
    ['which', 'track_id', 'excerpt']
    """
    from warehouse.database.connection import query

    named = find(name)
    return query(store, named.sql, bind(named, parameters or {}))
