"""What all commands share: one vocabulary of options, one way to end.

A command is three steps: parse arguments, call one library function with keyword arguments, print what it returned.
`run` turns the errors a user can cause into a message and an exit code; only bugs keep their traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

from featurestore import schemas
from featurestore.errors import EXIT_FAILED, EXIT_INTERRUPTED, Ended, FeatureStoreError, of_system
from featurestore.terminal import words

FORMATS = ("table", "csv", "json", "parquet", "markdown")


class Parser(argparse.ArgumentParser):
    """argparse with defaults in the help, the layout of the text kept, and a guess at what was meant."""

    def __init__(self, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", _Formatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(**kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and leave with exit code 2."""
        found = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        close = difflib.get_close_matches(found[1], re.findall(r"[^\s,']+", found[2]), 1) if found else []
        super().error(words.printable(message) + "".join(f"; did you mean {name}?" for name in close))


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        # "(default: None)" tells a reader nothing; what happens then is for the option's own text
        return action.help if action.default is None else super()._get_help_string(action)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add --store PATH|URL, from $FEATURESTORE where set."""
    default = os.environ.get("FEATURESTORE") or schemas.DEFAULT_STORE
    parser.add_argument(
        "--store", metavar="PATH|URL", type=place, default=default, help="the feature store; $FEATURESTORE sets it"
    )


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --output DIR."""
    parser.add_argument("--output", metavar="DIR", default=default, help="folder for what is made")


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add --jobs N; the default is every core."""
    parser.add_argument(
        "--jobs", metavar="N", type=positive, default=os.cpu_count() or 1, help="processes working at once"
    )


def add_features(parser: argparse.ArgumentParser) -> None:
    """Add --features SET."""
    parser.add_argument(
        "--features", metavar="SET", default="librosa", help="feature set: librosa (ours), or an imported one"
    )


def add_scheme(parser: argparse.ArgumentParser) -> None:
    """Add --scheme official|artist|random; None means: official where the store has one, otherwise artist."""
    parser.add_argument(
        "--scheme", choices=schemas.SCHEMES, default=None, help="split scheme; official where there is one, else artist"
    )


def add_subset(parser: argparse.ArgumentParser) -> None:
    """Add --subset NAME; a subset contains the smaller ones."""
    parser.add_argument("--subset", choices=schemas.SUBSETS, default=None, help="FMA subset; each contains the smaller")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add --seed N."""
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="seed of everything random")


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add --format table|csv|json|parquet|markdown."""
    parser.add_argument("--format", choices=FORMATS, default="table", help="how the result is printed")


def seed(text: str) -> int:
    """Parse an argument: an integer that every random generator takes. Raises argparse.ArgumentTypeError."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 4294967295, found {text}")
    return value


def count(text: str) -> int:
    """Parse an argument: an integer of at least 0. Raises argparse.ArgumentTypeError."""
    return _at_least(0, text)


def positive(text: str) -> int:
    """Parse an argument: an integer of at least 1. Raises argparse.ArgumentTypeError."""
    return _at_least(1, text)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, found {text}")
    return value


def place(text: str) -> str:
    """Parse an argument: a path or URL that every library can be given. Raises argparse.ArgumentTypeError.

    Audio may have names that are not UTF-8, a store may not.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"expected a name in UTF-8, found {os.fsencode(text)!r}") from None
    return text


def run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Run a command's `main`; print what a user can mend to standard error as one message.

    Parameters
    ----------
    main : Callable
        Takes the arguments and returns the exit code.
    argv : Sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit code: that of `main` or of the error; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what a terminal cannot show
    try:
        with _signals_end():
            return main(argv)
    except BrokenPipeError:
        # the reader of our output (head, less) left; what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (Exception, KeyboardInterrupt) as error:
        message, code = _ending(error)
        with contextlib.suppress(OSError):  # a terminal that hung up shows nothing
            words.note(message)
        return code


def _ending(error: BaseException) -> tuple[str, int]:
    """The message and the exit code for what ended a command. Raises `error` itself where it is a bug of ours."""
    if isinstance(error, KeyboardInterrupt):
        how = f"ended by {error.signal.name}" if isinstance(error, Ended) else "interrupted"
        code = error.exit_code if isinstance(error, Ended) else EXIT_INTERRUPTED
        return f"\n{how}: what was committed is kept; run the same command again to go on", code
    if isinstance(error, MemoryError):  # Arrow's and NumPy's too
        return "error: out of memory; use fewer --jobs or a smaller --subset", EXIT_FAILED
    known = error if isinstance(error, FeatureStoreError) else of_system(error)
    if known is None:
        raise error
    return f"error: {known}", known.exit_code


@contextlib.contextmanager
def _signals_end() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, unless they are ignored or somebody else's."""
    main_thread = threading.current_thread() is threading.main_thread()
    ours = [s for s in (signal.SIGTERM, signal.SIGHUP) if main_thread and signal.getsignal(s) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, _end)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise Ended(number)
