"""The options that the studies share, on top of featurestore.cli, and what they mean to joblib."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from featurestore.terminal import cli


def add_study(parser: argparse.ArgumentParser, *, features: bool = True) -> None:
    """--store, --features, --groups, --scheme, --subset, --output, --jobs, --backend, --seed, --format."""
    cli.add_store(parser)
    if features:
        cli.add_features(parser)
        parser.add_argument(
            "--groups", metavar="A,B", type=names, default=None, help="only these feature groups or features"
        )
    cli.add_scheme(parser)
    cli.add_subset(parser)
    cli.add_output(parser, "reports")
    cli.add_jobs(parser)
    parser.add_argument("--backend", metavar="NAME", default="loky", help="joblib backend: loky, threading, dask, ...")
    cli.add_seed(parser)
    cli.add_format(parser)


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
    """Run joblib's work inside on this backend. Raises UsageError for one that is not registered."""
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
