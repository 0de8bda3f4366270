"""`python -m featurestore gc`: remove what no reader can see."""

from __future__ import annotations

import argparse

from featurestore.terminal import cli


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `python -m featurestore gc`.
    """
    from featurestore.maintenance.gc import GRACE_S

    cli.add_store(parser)
    parser.add_argument(
        "--grace",
        metavar="S",
        type=float,
        default=GRACE_S,
        help="seconds that a replaced batch is kept for readers that began before",
    )
    parser.add_argument(
        "--break-lock",
        action="store_true",
        help="take the lock away first: for an object store whose builder is known to be gone",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")


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
    from featurestore.maintenance.gc import gc

    report = gc(args.store, grace_s=args.grace, dry_run=args.dry_run, break_lock=args.break_lock)
    verb = "would remove" if args.dry_run else "removed"
    waiting = f"; {report.waiting} replaced batches wait for their readers" if report.waiting else ""
    print(
        f"{args.store}: {verb} {report.batches} replaced batches, {report.derived} replaced databases and "
        f"{report.leftovers} files of stopped builds ({report.bytes / 1e6:.1f} MB){waiting}"
    )
    return 0
