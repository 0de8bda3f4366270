"""`python -m featurestore catalog`: labels and splits only, no audio decoded."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from featurestore.terminal import cli

if TYPE_CHECKING:
    from featurestore.catalog.merge import CatalogReport


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `python -m featurestore catalog`.
    """
    from featurestore.datasets import DATASETS

    parser.description = (
        "Read a collection's labels into the store and draw its splits; no audio is decoded. With FMA's metadata its "
        "features.csv and echonest.csv become the feature sets fma and echonest, so that SQL and the studies work "
        "without any audio."
    )
    cli.add_store(parser)
    parser.add_argument("--dataset", required=True, choices=DATASETS, help="kind of collection")
    parser.add_argument("--metadata", metavar="DIR", default=None, help="folder with the labels (dataset fma)")
    parser.add_argument("--audio", metavar="DIR|URL", default=None, help="folder with the music (folders, tags, fma)")
    cli.add_subset(parser)


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
    from featurestore import datasets
    from featurestore.catalog import merge
    from featurestore.store import files, lock, places
    from featurestore.store.store import Store

    places.refuse_inside(args.audio, "--audio", args.store)
    places.refuse_inside(args.metadata, "--metadata", args.store)
    collection = datasets.load(args.dataset, audio=args.audio, metadata=args.metadata, subset=args.subset)
    with lock.hold(*files.resolve(args.store), f"catalog of {args.dataset}") as held:
        report = merge.update(Store.open_or_create(args.store).locked(held), collection)
    print(text(args.store, report))
    return 0


def text(store: str, report: CatalogReport) -> str:
    """Write the report as a person reads it.

    Parameters
    ----------
    store : str
        Path or URL of the store, as it was given.
    report : CatalogReport
        What the update did.

    Returns
    -------
    str
        Lines.
    """
    kept = f"; {report.absent} of an earlier catalog kept" if report.absent else ""
    lines = [f"warning: {w}" for w in report.warnings]
    lines.append(
        f"{store}: {report.tracks} tracks of {report.dataset}: {report.added} new, {report.changed} changed{kept}; "
        f"{report.with_audio} with an audio file, {report.genres} genres"
    )
    for scheme, found in report.splits.items():
        lines.append(f"split {scheme}: " + ", ".join(f"{n} {split}" for split, n in found.items()))
    for made in report.feature_sets:
        elsewhere = f"; {len(made.unknown)} rows of tracks not in the catalog left out" if made.unknown else ""
        lines.append(f"feature set {made.set}: {made.matched} tracks x {made.columns} features{elsewhere}")
    return "\n".join(lines)
