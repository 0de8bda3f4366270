"""`python -m featurestore splits`: how the tracks are split, and what crosses."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from featurestore.terminal import cli

if TYPE_CHECKING:
    from featurestore.catalog.splits import SplitReport


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `python -m featurestore splits`.
    """
    parser.description = (
        "Print the tracks of each genre in each split of a scheme, and how many artists and exact copies stand in more "
        "than one split."
    )
    cli.add_store(parser)
    cli.add_scheme(parser)
    cli.add_subset(parser)
    cli.add_format(parser)


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : argparse.Namespace
        What `configure` parsed.

    Returns
    -------
    int
        The exit code.
    """
    from featurestore.catalog import merge
    from featurestore.store.store import Store, default_scheme
    from featurestore.terminal import tables, words

    store = Store.open(args.store)
    report = merge.split_report(store, args.scheme or default_scheme(store), args.subset)
    tables.emit(report.counts, args.format)
    if args.format == "table":
        print(crossing(report))
    else:
        words.note(crossing(report))
    return 0


def crossing(report: SplitReport) -> str:
    """Say what crosses splits, and what is not known to cross.

    Parameters
    ----------
    report : SplitReport
        Of one scheme.

    Returns
    -------
    str
        A line each.
    """
    tracks = report.counts["total"][-1].as_py()
    alone = (
        f"{report.without_artist} of {tracks} tracks have no known artist: each counts as one of its own\n"
        if report.without_artist
        else ""
    )
    unknown = f" ({report.unmeasured} tracks not measured yet)" if report.unmeasured else ""
    return (
        f"scheme {report.scheme}: {report.artists_crossing} of {report.artists} known artists cross splits\n{alone}"
        f"{report.copies_crossing} of {report.copies} groups of exact copies cross splits{unknown}"
    )
