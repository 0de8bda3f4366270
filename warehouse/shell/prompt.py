"""The prompt: SQL with history, completion and colours, by prompt_toolkit."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from featurestore.errors import EXIT_DONE, Ended, FeatureStoreError, UsageError
from featurestore.store.store import Store
from featurestore.terminal import tables, words
from warehouse.shell import named, shell

HELP = """\
SQL ends with a semicolon; Enter before it starts another line.
  .tables             views and tables, with what they hold
  .columns NAME       the columns of one, with what they mean
  .queries            the named queries
  .run NAME k=v ...   run one of them
  .format NAME        table, csv, json or markdown
  .quit               leave (so does Ctrl-D); Ctrl-C drops the line"""

_TABLES = """
SELECT view_name AS name, comment AS holds FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'
UNION ALL SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY name
"""
_COLUMNS = """
SELECT column_name AS "column", data_type AS type, comment AS means FROM duckdb_columns()
WHERE schema_name = 'main' AND table_name = $name ORDER BY column_index
"""
_WORDS = """
SELECT keyword_name FROM duckdb_keywords() UNION SELECT view_name FROM duckdb_views() WHERE NOT internal
UNION SELECT column_name FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal
UNION SELECT function_name FROM duckdb_functions() WHERE regexp_full_match(function_name, '[a-z][a-z0-9_]+')
"""


def run(store: Store | str | os.PathLike[str], **session_options: Any) -> int:
    """Read statements from the terminal until its end, and answer each.

    Parameters
    ----------
    store : Store, str or path
        The store, its path or its URL.
    **session_options
        For prompt_toolkit's PromptSession: its input and output.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    FeatureStoreError
        What `connect` raises; a statement's error is printed.
    """
    with shell.connected(store) as connection:
        session = _session(connection, **session_options)
        name = store.url if isinstance(store, Store) else os.fspath(store)
        words.note(f"store {name}: SQL ends with a semicolon, .tables shows what there is, .help the rest")
        state = _State(connection)
        while not state.done:
            try:
                text = session.prompt("sql> ").strip()
            except Ended:
                raise
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            state.answer(text)
    return EXIT_DONE


class _State:
    """What the prompt remembers between lines: the connection, the format, whether to stop."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.format = "table"
        self.done = False

    def answer(self, text: str) -> None:
        """Run one line of dot command or SQL; what goes wrong is printed, and the prompt goes on."""
        try:
            if text.startswith("."):
                self._command(text)
            elif text:
                self._print(text)
        except FeatureStoreError as error:
            words.note(f"error: {error}")
        except Ended:
            raise
        except KeyboardInterrupt:
            words.note("interrupted")

    def _print(self, sql: str, parameters: Mapping[str, str] | None = None) -> None:
        for table, more in shell.results(self.connection, sql, self.format, parameters, limit=shell.MAX_ROWS):
            shell.print_result(table, more, self.format)

    def _command(self, text: str) -> None:
        try:
            word, *rest = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"{text}: {error}", "Close the quote.") from None
        commands: dict[str, Callable[..., None]] = {
            ".help": lambda: print(HELP),
            ".tables": lambda: self._print(_TABLES),
            ".columns": lambda name: self._print(_COLUMNS, {"name": name}),
            ".queries": lambda: tables.emit(named.listing(), self.format),
            ".run": self._run,
            ".format": self._set_format,
            ".quit": self._quit,
            ".exit": self._quit,
        }
        if word not in commands:
            raise UsageError(f"no command {word}", f"Expected one of {', '.join(commands)}.")
        try:
            commands[word](*rest)
        except TypeError:
            raise UsageError(f"{word}: wrong number of words", "See .help.") from None

    def _run(self, name: str, *parameters: str) -> None:
        query = named.find(name)
        self._print(query.sql, named.bind(query, named.parse_parameters(parameters)))

    def _set_format(self, name: str) -> None:
        if name not in ("table", "csv", "json", "markdown"):
            raise UsageError(f"no format {name}", "Expected table, csv, json or markdown.")
        self.format = name

    def _quit(self) -> None:
        self.done = True


def _session(connection: duckdb.DuckDBPyConnection, **options: Any) -> Any:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import get_app
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.lexers import PygmentsLexer
    from pygments.lexers.sql import SqlLexer

    return PromptSession(
        multiline=Condition(lambda: not _is_complete(get_app().current_buffer.text)),
        history=_history(),
        lexer=PygmentsLexer(SqlLexer),
        completer=completer(connection),
        complete_while_typing=False,
        **options,
    )


def _is_complete(text: str) -> bool:
    """Whether Enter ends the statement; before, it starts another line."""
    return not text.strip() or text.lstrip().startswith(".") or text.rstrip().endswith(";")


def completer(connection: duckdb.DuckDBPyConnection) -> Any:
    """Completion of what can be typed: SQL words, functions, views, columns, named queries, dot commands.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        One that shows a store.

    Returns
    -------
    prompt_toolkit.completion.Completer
    """
    from prompt_toolkit.completion import WordCompleter

    known = {row[0] for row in connection.execute(_WORDS).fetchall()}
    commands = {line.split()[0] for line in HELP.splitlines()[1:]}
    queries = {query.name for query in named.named_queries()}
    return WordCompleter(sorted(known | commands | queries), ignore_case=True)


def _history() -> Any:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "music-feature-store" / "sql_history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError:
        # a home that cannot be written to is no reason not to answer
        return InMemoryHistory()
    return FileHistory(str(path))
