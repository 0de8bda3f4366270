"""What the commands of the studies share: their options, and how options become a study that is written and printed."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence

from analysis.results import output
from featurestore.store.store import Store
from featurestore.terminal import cli


def parser(study: str, description: str | None, *, features: bool = True, jobs: bool = True) -> cli.Parser:
    """A parser with --store, --features, --groups, --scheme, --subset, --output, --jobs, --backend, --seed, --format.

    Parameters
    ----------
    study : str
        Name of the command.
    description : str
        What its help says.
    features, jobs : bool
        Whether it takes one feature set, and whether it works in parallel.

    Returns
    -------
    Parser
    """
    out = cli.Parser(prog=f"python -m analysis.{study}", description=description)
    cli.add_store(out)
    if features:
        cli.add_features(out)
        out.add_argument("--groups", metavar="A,B", type=names, help="only these feature groups or features")
    cli.add_scheme(out)
    cli.add_subset(out)
    cli.add_output(out, "reports")
    if jobs:
        cli.add_jobs(out)
        out.add_argument("--backend", metavar="NAME", default="loky", help="joblib backend: loky, threading, dask, ...")
    cli.add_seed(out)
    cli.add_format(out)
    return out


def run(study: Callable[..., output.Study], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse, study, write and print.

    Parameters
    ----------
    study : callable
        Takes a store, and keyword arguments named as the parser's options.
    parser : argparse.ArgumentParser
        What `parser` made, with the study's own options.
    argv : sequence of str or None
        The command line; None: that of the process.

    Returns
    -------
    int
        Exit code 0.
    """
    given = vars(parser.parse_args(argv))
    store, folder, format = (given.pop(name) for name in ("store", "output", "format"))
    with joblib_backend(given.pop("backend", "loky")):
        done = study(Store.open(store), **given)
    output.report(done, folder, format)
    return 0


def names(text: str) -> list[str]:
    """An argparse type: `a,b` -> ["a", "b"]."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"expected names separated by commas, found {text!r}")
    return found


def numbers(text: str) -> list[int]:
    """An argparse type: `2,5` -> [2, 5]."""
    return [int(part) for part in names(text)]


def share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, found {text}")
    return value


@contextlib.contextmanager
def joblib_backend(name: str) -> Iterator[None]:
    """Run joblib's work inside on a backend.

    Parameters
    ----------
    name : str
        A backend that joblib knows.

    Raises
    ------
    UsageError
        If it knows none of that name.
    """
    import joblib

    from featurestore.errors import UsageError

    try:
        config = joblib.parallel_config(backend=name)
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"--backend {name}: {error}", "loky works everywhere; dask needs the extra [cluster]."
        ) from None
    with config:
        yield
