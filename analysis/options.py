"""What the commands of the studies share: their options, and how options become a study that is written and printed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

from analysis.results import output
from featurestore.errors import UsageError
from featurestore.store.store import Store
from featurestore.terminal import cli


def parser(study: str, description: str | None, *, features: bool = True) -> cli.Parser:
    """A parser with --store, --features, --groups, --scheme, --subset, --output, --jobs, --backend, --seed, --format.

    Parameters
    ----------
    study : str
        Name of the command.
    description : str
        What its help says.
    features : bool
        Whether it takes one feature set.

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
        What `parser` made, with the study's own options. Their values are the `settings` of study.json.
    argv : sequence of str or None
        The command line; None: that of the process.

    Returns
    -------
    int
        Exit code 0.
    """
    given = vars(parser.parse_args(argv))
    store, folder, format, jobs, backend = (given.pop(k) for k in ("store", "output", "format", "jobs", "backend"))
    with workers(jobs, backend):
        done = study(Store.open(store), **given)
    settings = {**given, "jobs": jobs, "backend": backend}
    output.report(dataclasses.replace(done, facts={**done.facts, "settings": settings}), folder, format)
    return 0


def names(text: str) -> list[str]:
    """Read names that are separated by commas; a type for argparse.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of str
        At least one, without the spaces around them.

    Raises
    ------
    argparse.ArgumentTypeError
        If there is none.

    Examples
    --------
    >>> names("knn, mlp")
    ['knn', 'mlp']
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"expected names separated by commas, found {text!r}")
    return found


def numbers(text: str) -> list[int]:
    """Read whole numbers that are separated by commas; a type for argparse.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of int
        At least one.

    Raises
    ------
    argparse.ArgumentTypeError, ValueError
        If there is none, or one is no whole number.

    Examples
    --------
    >>> numbers("2,5")
    [2, 5]
    """
    return [int(part) for part in names(text)]


def share(text: str) -> float:
    """Read a number from 0 to 1; a type for argparse.

    Parameters
    ----------
    text : str

    Returns
    -------
    float

    Raises
    ------
    argparse.ArgumentTypeError, ValueError
        If the number lies outside, or is none.
    """
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, found {text}")
    return value


@contextlib.contextmanager
def workers(jobs: int, backend: str) -> Iterator[None]:
    """Let joblib work inside with so many processes of a backend.

    Parameters
    ----------
    jobs : int
        How many work at once.
    backend : str
        A backend that joblib knows.

    Raises
    ------
    UsageError
        If it knows none of that name.
    """
    import joblib

    try:
        config = joblib.parallel_config(backend=backend, n_jobs=jobs)
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"--backend {backend}: {error}", "loky works everywhere; dask needs the extra [cluster]."
        ) from None
    with config:
        yield
