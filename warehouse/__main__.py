"""Ask the feature store in SQL.

python -m warehouse "SELECT genre, count(*) FROM tracks GROUP BY genre"
python -m warehouse < question.sql               or --file question.sql
python -m warehouse                              a prompt with history and completion (.help there)
python -m warehouse --list                       the named queries
python -m warehouse run NAME --param k=v         one of them
python -m warehouse catalog FILE.duckdb          a database of views for the DuckDB CLI, DBeaver, a notebook:
                                                 opened from its own folder, it moves together with the store;
                                                 with --absolute it opens from any folder, and the store must stay
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from featurestore.errors import EXIT_DONE, UsageError
from featurestore.terminal import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: parse its arguments, ask the store, print the answer.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    FeatureStoreError
        For what a user can mend; `cli.run` turns it into a message and its exit code.
    """
    args = _parser().parse_intermixed_args(argv)
    from featurestore.terminal import tables

    args.format = tables.format_for(args.output, args.format)
    if args.output:
        from featurestore.store import places

        places.refuse_inside(args.output, "--output", args.store)
    if args.list:
        from warehouse.shell import named

        tables.emit(named.listing(), args.format, args.output)
        return EXIT_DONE
    word, *rest = args.words or [""]
    if word == "run":
        return _run(args, rest)
    if args.param:
        raise UsageError("--param belongs to a named query", "Write `python -m warehouse run NAME --param k=v`.")
    if word == "catalog":
        return _catalog(args, rest)
    return _ask(args)


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m warehouse", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="SQL", help="one or more statements; or `run NAME`, `catalog FILE`")
    cli.add_store(parser)
    parser.add_argument(
        "--format", choices=cli.FORMATS, help="how the result is printed: as --output's suffix says, else table"
    )
    parser.add_argument("--output", metavar="FILE", help="write the result to a file or URL instead of printing it")
    parser.add_argument("--file", metavar="FILE", help="read the statements from a file; - is standard input")
    parser.add_argument("--timeout", metavar="S", type=_seconds, default=600, help="seconds a statement may take")
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="memory statements may use, such as 4GB; 80%% of the machine's by default",
    )
    parser.add_argument("--list", action="store_true", help="list the named queries")
    parser.add_argument("--param", metavar="K=V", action="append", default=[], help="parameter of a named query")
    parser.add_argument("--absolute", action="store_true", help="let the file of `catalog` work from any folder")
    parser.add_argument("--force", action="store_true", help="let `catalog` replace a file that is there")
    return parser


def _seconds(text: str) -> float:
    """An argparse type: a time in seconds, above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0, found {text}")
    return value


def _run(args: argparse.Namespace, rest: list[str]) -> int:
    from warehouse.shell import named

    if len(rest) != 1:
        raise UsageError(f"run takes one name, found {len(rest)}", "See the names with `python -m warehouse --list`.")
    query = named.find(rest[0])
    parameters = named.bind(query, named.parse_parameters(args.param))
    return _print(args, query.sql, parameters)


def _catalog(args: argparse.Namespace, rest: list[str]) -> int:
    from featurestore.terminal import words
    from warehouse.database import export

    if len(rest) != 1:
        raise UsageError(
            f"catalog takes one file, found {len(rest)}", "Write `python -m warehouse catalog FILE.duckdb`."
        )
    written = export.write_database(args.store, rest[0], absolute=args.absolute, force=args.force)
    words.note(f"wrote {written.path}: {written.views} tables and views. {written.how}")
    return EXIT_DONE


def _ask(args: argparse.Namespace) -> int:
    from warehouse.shell import shell

    if not args.words and not args.file and sys.stdin.isatty():
        from warehouse.shell.prompt import run

        return run(args.store)
    return _print(args, shell.statements(args.words, args.file))


def _print(args: argparse.Namespace, sql: str, parameters: Mapping[str, str] | None = None) -> int:
    from warehouse.shell import shell

    shell.print_results(
        args.store,
        sql,
        parameters,
        format=args.format,
        output=args.output,
        timeout=args.timeout,
        memory_limit=args.memory_limit,
    )
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
