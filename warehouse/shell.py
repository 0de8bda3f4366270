"""One-shot SQL: where the statements come from, and how their results are printed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa

from featurestore import files, present
from featurestore.errors import MissingInput, UsageError
from featurestore.store import Store
from warehouse.connection import connect_for, failure, relation

MAX_ROWS = 1000  # rows of a printed table; every other format has them all


def statements(words: Sequence[str], file: str | None) -> str:
    """The SQL of a command line: its one argument, else the file (- is standard input), else standard input.

    Raises UsageError where that is not one text, MissingInput where the file cannot be read.
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


def print_results(
    store: Store | str | os.PathLike[str], sql: str, *, format: str = "table", output: str | None = None
) -> None:
    """Run every statement of `sql`, read-only, and print each result, or write the only one to `output`.

    Raises UsageError where several results cannot go into one file, and what `query` raises.
    """
    single = output is not None or format == "parquet"
    limit = MAX_ROWS if format == "table" and output is None else None
    with contextlib.closing(connect_for(store, sql)) as connection:
        for number, (table, more) in enumerate(results(connection, sql, limit)):
            if single and number:
                raise UsageError("the statements have several results, and one file holds one", "Ask one question.")
            if number:
                print()
            print_result(table, more, format, output)


def print_result(table: pa.Table, more: bool, format: str = "table", output: str | None = None) -> None:
    """Print one result, or write it to `output`; `more` says that rows were left out."""
    if format == "table" and output is None and table.column_names == ["explain_key", "explain_value"]:
        print("\n".join(table["explain_value"].to_pylist()))
        return
    present.emit(table, format, output)
    if more:
        present.note(f"(the first {MAX_ROWS:,} rows; all of them with --format csv, json or parquet)")


def results(connection: duckdb.DuckDBPyConnection, sql: str, limit: int | None) -> Iterator[tuple[pa.Table, bool]]:
    """Run the statements one by one; yields (rows, whether there were more than `limit`) of those that ask for rows.

    Raises FeatureStoreError with DuckDB's message and its pointer into the statement.
    """
    try:
        for statement in duckdb.extract_statements(sql):
            # DuckDB counts the pointer's place from the first character that is not blank
            text = statement.query.strip()
            if statement.expected_result_type != [duckdb.ExpectedResultType.QUERY_RESULT]:
                connection.execute(text)
            elif (rows := relation(connection, text)) is not None:
                yield _take(rows, limit)
    except (duckdb.Error, RuntimeError) as error:
        raise failure(error) from None


def _take(rows: duckdb.DuckDBPyRelation, limit: int | None) -> tuple[pa.Table, bool]:
    if limit is None:
        return rows.to_arrow_table(), False
    # read no further than what is printed: a row of `mel` is a quarter of a megabyte
    with contextlib.closing(rows.to_arrow_reader(limit + 1)) as reader:
        batches, n = [], 0
        for batch in reader:
            batches.append(batch)
            n += len(batch)
            if n > limit:
                break
        table = pa.Table.from_batches(batches, schema=reader.schema)
    return table.slice(0, limit), n > limit
