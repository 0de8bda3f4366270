"""`python -m featurestore verify`: check every file and value."""

from __future__ import annotations

import argparse

from featurestore.errors import EXIT_DONE, EXIT_FAILED
from featurestore.terminal import cli, tables, words

SAMPLE = 3  # tracks: about a second


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `python -m featurestore verify`.
    """
    parser.description = (
        "Check the checksum and schema of every file, that keys are unique and tables agree, that values are finite "
        "and in range; and measure a sample of excerpts again from their audio. Exit code 1 if anything is wrong."
    )
    cli.add_store(parser)
    cli.add_jobs(parser)
    cli.add_format(parser)
    parser.add_argument(
        "--sample",
        metavar="N",
        type=cli.count,
        default=SAMPLE,
        help="tracks to measure again from their audio, where it is at hand; 0: none",
    )
    parser.add_argument(
        "--repair", action="store_true", help="remove damaged batches, so that the next build redoes just those"
    )


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : argparse.Namespace
        What `configure` parsed.

    Returns
    -------
    int
        The exit code: 1 where something is wrong and was not repaired.
    """
    from featurestore.maintenance.verify import verify

    report = verify(args.store, sample=args.sample, repair=args.repair, jobs=args.jobs)
    for line in report.notes:
        words.note(f"note: {line}")
    if report.damages or args.format != "table":
        tables.emit(report.as_table(), args.format)
    counts = f"{report.files} files of {report.batches} batches, {report.recomputed} excerpts measured again"
    if not report.damages:
        words.note(f"{args.store}: intact ({counts})")
        return EXIT_DONE
    words.note(f"{args.store}: {len(report.damages)} damages in {counts}")
    if args.repair:
        lost = {d.file for d in report.damages} - set(report.dropped)
        imported = sorted(f for f in lost if f.startswith("catalog/features_"))
        words.note(f"dropped: {', '.join(report.dropped) or 'nothing'}")
        words.note("Build or catalog every data set of the store again: just that is redone.")
        for file in imported:
            words.note(f"{file}: import it again with `python -m featurestore import-features`")
        return EXIT_FAILED if imported else EXIT_DONE
    words.note("Run `python -m featurestore verify --repair` to drop what is damaged, then build or catalog again.")
    return EXIT_FAILED
