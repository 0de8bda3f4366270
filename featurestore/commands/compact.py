"""`python -m featurestore compact`: merge small batches and drop superseded rows."""

from __future__ import annotations

import argparse

from featurestore.terminal import cli


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `python -m featurestore compact`.
    """
    from featurestore.maintenance.compact import TARGET_MB

    parser.description = (
        "Merge small batches into large ones, so that queries open few files, and leave superseded rows behind. "
        "The old batches stay for readers that are using them; `gc` removes them. Safe to stop at any point."
    )
    cli.add_store(parser)
    parser.add_argument("--target-mb", metavar="MB", type=float, default=TARGET_MB, help="size of a merged batch")
    parser.add_argument("--dry-run", action="store_true", help="say what would be merged, and write nothing")


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
    from featurestore.maintenance.compact import compact

    report = compact(args.store, target_mb=args.target_mb, dry_run=args.dry_run)
    if args.dry_run:
        print(f"{args.store}: would merge {report.merged} batches into {report.made}")
    elif not report.merged:
        print(f"{args.store}: nothing to do: {report.batches} batches, none small")
    else:
        print(
            f"{args.store}: {report.merged} batches merged into {report.made} ({report.bytes / 1e6:.1f} MB), "
            f"{report.dropped} superseded excerpts left behind; readers open {report.batches} batches now"
        )
        print("the old ones go with a build an hour later; to remove them now: python -m featurestore gc --grace 0")
    return 0
