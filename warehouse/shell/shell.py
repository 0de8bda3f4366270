"""One-shot SQL: where the statements come from, and how their results are printed."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence

import duckdb
import pyarrow as pa

from featurestore.errors import FeatureStoreError, MissingInput, UsageError
from featurestore.store import files
from featurestore.store.store import Store
from featurestore.terminal import tables, words
from warehouse.database import derived
from warehouse.database.connection import connect, failure, interruptible, open_store, relation
from warehouse.shell.printable import printable

Answer = tuple[pa.Table, bool]  # the rows, and whether there were more

PATIENCE = 2.0  # seconds that a connection may take before the command says why
MAX_ROWS = 1000  # rows of a printed table; every other format has them all


def statements(words: Sequence[str], file: str | None) -> str:
    """The SQL of a command line: its one argument, else the file, else standard input.

    Parameters
    ----------
    words : sequence of str
        The arguments that are no options.
    file : str or None
        Path or URL; - is standard input.

    Returns
    -------
    str

    Raises
    ------
    UsageError
        If that is not one text, or an empty one.
    MissingInput
        If the file cannot be read.
    """
    if words and file:
        raise UsageError("SQL was given both as an argument and with --file", "Give it once.")
    if len(words) > 1:
        raise UsageError(
            f"expected the SQL as one argument, found {len(words)}",
            'Quote it: python -m warehouse "SELECT count(*) FROM tracks".',
        )
    sql = words[0] if words else sys.stdin.read() if file in (None, "-") else _read(str(file))
    if not sql.strip():
        raise UsageError("no SQL was given", 'Try: python -m warehouse "SHOW TABLES", or --help.')
    return sql


def _read(path: str) -> str:
    try:
        fs, name = files.resolve(path)
        with fs.open(name, "rb") as f:
            return bytes(f.read()).decode("utf-8")
    except OSError as error:
        raise MissingInput(f"{path}: cannot be read ({error.strerror or error})", "Name a file with SQL.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error})", "Name a file with SQL.") from None


@contextlib.contextmanager
def connected(
    store: Store | str | os.PathLike[str], memory_limit: str | None = None, *, patience: float = PATIENCE
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect for a command; where the store's database has to be made and that takes long, say so on standard error.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    memory_limit : str, optional
        As in `connect`.
    patience : float
        Seconds before the note.

    Yields
    ------
    duckdb.DuckDBPyConnection
        Read-only; it is closed when the block ends.

    Raises
    ------
    FeatureStoreError
        What `connect` raises.
    """
    opened = open_store(store)
    note = threading.Timer(patience, _note_making, [opened])
    note.start()
    try:
        connection = connect(opened, memory_limit=memory_limit)
    finally:
        note.cancel()
    with contextlib.closing(connection):
        yield connection


def _note_making(store: Store) -> None:
    with contextlib.suppress(FeatureStoreError, OSError):  # `connect` says it
        if not derived.is_kept(store):
            words.note("making a database of the store as it is now; where it can be kept, the next question finds it")


def print_results(
    store: Store | str | os.PathLike[str],
    sql: str,
    parameters: Mapping[str, str] | None = None,
    *,
    format: str = "table",
    output: str | None = None,
    timeout: float | None = None,
    memory_limit: str | None = None,
) -> None:
    """Run SQL read-only, and print the result of every statement, or write the only one to a file.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    sql : str
        One or more statements.
    parameters : mapping of str to str, optional
        Values of `$name` in it.
    format : str
        One of `cli.FORMATS`.
    output : str, optional
        Path or URL of the file.
    timeout : float, optional
        Seconds that each statement may take.
    memory_limit : str, optional
        As in `connect`.

    Raises
    ------
    UsageError
        If there is not exactly one result for the one file.
    FeatureStoreError
        What `results` and `connect` raise.
    """
    single = output is not None or format == "parquet"
    with connected(store, memory_limit) as connection:
        answers = results(
            connection, sql, format, parameters, timeout=timeout, limit=MAX_ROWS if output is None else None
        )
        if single:
            # nothing is written before all statements have run
            answers = iter(_only(list(answers)))
        for number, (table, more) in enumerate(answers):
            if number:
                print()
            print_result(table, more, format, output)


def _only(answers: list[Answer]) -> list[Answer]:
    if len(answers) != 1:
        found = "several results" if answers else "no result"
        raise UsageError(f"the statements have {found}, and one file holds one", "Ask one question.")
    return answers


def print_result(table: pa.Table, more: bool, format: str = "table", output: str | None = None) -> None:
    """Print one result, or write it to a file.

    Parameters
    ----------
    table : pyarrow.Table
    more : bool
        Whether rows were left out; a note says so.
    format : str
        One of `cli.FORMATS`.
    output : str, optional
        Path or URL of the file.
    """
    if format == "table" and output is None and table.column_names == ["explain_key", "explain_value"]:
        print("\n".join(table["explain_value"].to_pylist()))
        return
    tables.emit(table, format, output)
    if more:
        words.note(f"(the first {MAX_ROWS:,} rows; all of them with --format csv, json or parquet)")


def results(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    format: str,
    parameters: Mapping[str, str] | None = None,
    *,
    limit: int | None = None,
    timeout: float | None = None,
) -> Iterator[Answer]:
    """Run statements one by one.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
    sql : str
        One or more statements.
    format : str
        One of `cli.FORMATS`; values that it has no form for become text.
    parameters : mapping of str to str, optional
        Values of `$name` in the SQL.
    limit : int, optional
        Most rows of a result, for the format `table` only.
    timeout : float, optional
        Seconds that each statement may take.

    Yields
    ------
    table : pyarrow.Table
        The rows of a statement that has rows; column names are unique.
    more : bool
        Whether there were more than `limit`.

    Raises
    ------
    FeatureStoreError
        With DuckDB's message and its pointer into the statement.
    KeyboardInterrupt
        At Ctrl-C.
    """
    if format != "table":
        limit = None
    try:
        for statement in duckdb.extract_statements(sql):
            # DuckDB counts the pointer's place from the first character that is not blank
            answer = functools.partial(_answer, connection, statement.query.strip(), parameters, format, limit)
            if (found := interruptible(connection, answer, timeout)) and _asks(statement, found[0]):
                yield found
    except (duckdb.Error, RuntimeError) as error:
        raise failure(error) from None


def _asks(statement: duckdb.Statement, table: pa.Table) -> bool:
    """Whether a statement's rows answer it (PIVOT and RETURNING too), not DuckDB's count of the rows it changed."""
    kinds = statement.expected_result_type
    if kinds == [duckdb.ExpectedResultType.QUERY_RESULT]:
        return True
    return duckdb.ExpectedResultType.QUERY_RESULT in kinds and table.column_names != ["Count"]


def _answer(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    parameters: Mapping[str, str] | None,
    format: str,
    limit: int | None,
) -> Answer | None:
    rows = relation(connection, sql, parameters)
    if rows is None:
        return None
    shown = printable(rows, format)
    if limit is not None:
        shown = shown.limit(limit + 1)
    try:
        table = shown.to_arrow_table()
    except duckdb.Error as error:
        raise type(error)(_own_line(str(error), shown, sql)) from None
    return table.slice(0, limit), limit is not None and len(table) > limit


def _own_line(message: str, shown: duckdb.DuckDBPyRelation, sql: str) -> str:
    """DuckDB's message with its pointer's line counted in `sql`, not in what `printable` wrapped around it."""
    around, found, _ = shown.sql_query().partition(sql)
    more = around.count("\n") if found else 0
    return re.sub(r"(?<=\nLINE )\d+(?=:)", lambda line: str(int(line[0]) - more), message)
