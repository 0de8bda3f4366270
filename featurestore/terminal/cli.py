"""What all commands share: one vocabulary of options, one way to end.

A command is three steps: parse arguments, call one library function with keyword arguments, print what it returned.
`run` turns the errors a user can cause into a message and an exit code; only bugs keep their traceback.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from featurestore import schemas
from featurestore.errors import EXIT_FAILED, EXIT_INTERRUPTED, FeatureStoreError, of_system
from featurestore.store.store import DEFAULT_STORE

FORMATS = ("table", "csv", "json", "parquet", "markdown")


class Parser(argparse.ArgumentParser):
    """argparse with defaults in the help and with the layout of the text kept."""

    def __init__(self, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", _Formatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(**kwargs)  # type: ignore[arg-type]


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        # "(default: None)" tells a reader nothing; what happens then is for the option's own text
        return action.help if action.default is None else super()._get_help_string(action)


def add_store(parser: argparse.ArgumentParser) -> None:
    """--store PATH|URL, from $FEATURESTORE where set."""
    default = os.environ.get("FEATURESTORE") or DEFAULT_STORE
    parser.add_argument(
        "--store", metavar="PATH|URL", type=place, default=default, help="the feature store; $FEATURESTORE sets it"
    )


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """--output DIR."""
    parser.add_argument("--output", metavar="DIR", default=default, help="folder for what is made")


def add_jobs(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    """--jobs N; the default is every core."""
    parser.add_argument(
        "--jobs", metavar="N", type=positive, default=default or os.cpu_count() or 1, help="processes working at once"
    )


def add_features(parser: argparse.ArgumentParser, default: str = "librosa") -> None:
    """--features SET."""
    parser.add_argument(
        "--features", metavar="SET", default=default, help="feature set: librosa (ours), or an imported one"
    )


def add_scheme(parser: argparse.ArgumentParser) -> None:
    """--scheme official|artist|random; None means: official where the store has one, otherwise artist."""
    parser.add_argument(
        "--scheme", choices=schemas.SCHEMES, default=None, help="split scheme; official where there is one, else artist"
    )


def add_subset(parser: argparse.ArgumentParser) -> None:
    """--subset NAME; a subset contains the smaller ones."""
    parser.add_argument("--subset", choices=schemas.SUBSETS, default=None, help="FMA subset; each contains the smaller")


def add_seed(parser: argparse.ArgumentParser, default: int = 0) -> None:
    """--seed N."""
    parser.add_argument("--seed", metavar="N", type=seed, default=default, help="seed of everything random")


def add_format(parser: argparse.ArgumentParser, formats: Sequence[str] = FORMATS, default: str = "table") -> None:
    """--format table|csv|json|parquet|markdown."""
    parser.add_argument("--format", choices=formats, default=default, help="how the result is printed")


def seed(text: str) -> int:
    """An argparse type: an integer that every random generator takes, 0 to 2**32 - 1."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 4294967295, found {text}")
    return value


def count(text: str) -> int:
    """An argparse type: an integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, found {text}")
    return value


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return value


def place(text: str) -> str:
    """An argparse type: a path or URL that every library can be given. Audio may have other names, a store may not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"expected a name in UTF-8, found {os.fsencode(text)!r}") from None
    return text


def run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Run a command's `main` and return the exit code; print user errors to standard error as one message."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what a terminal cannot show
    try:
        return main(argv)
    except FeatureStoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted: what was committed is kept; run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader of our output (head, less) left; what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except MemoryError:
        print("error: out of memory; use fewer --jobs or a smaller --subset", file=sys.stderr)
        return EXIT_FAILED
    except Exception as error:
        known = of_system(error)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)
        return known.exit_code


def subcommands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[Parser]:
    """Required subcommands: naming none prints the help and exits 2."""
    return parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
