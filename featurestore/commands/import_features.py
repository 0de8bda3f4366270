"""`python -m featurestore import-features`: add anyone's features by track id."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from featurestore.errors import EXIT_DONE, UsageError
from featurestore.terminal import cli

if TYPE_CHECKING:
    from featurestore.catalog.feature_sets import ImportReport


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `python -m featurestore import-features`.
    """
    parser.description = (
        "Add a CSV or Parquet table of features to the store as a feature set of its own: features_NAME in SQL, "
        "--features NAME in the studies. Rows find their track by number, or by file name. A table with a column of "
        "genres (--label-column) needs nothing else: its rows become tracks."
    )
    cli.add_store(parser)
    parser.add_argument("table", metavar="TABLE", help="CSV (also with FMA's header rows) or Parquet; a file or URL")
    parser.add_argument("--set", metavar="NAME", required=True, help="name of the set; one of that name is replaced")
    parser.add_argument(
        "--id-column", metavar="COLUMN", default=None, help="track ids or file names; default: track_id, or the index"
    )
    parser.add_argument(
        "--label-column", metavar="COLUMN", default=None, help="genres: rows of unknown tracks become tracks"
    )
    parser.add_argument("--skip", metavar="A,B", default="", help="columns to leave out")
    parser.add_argument("--ignore-unknown", action="store_true", help="leave out rows of tracks not in the catalog")
    parser.add_argument("--dry-run", action="store_true", help="say what would match, and write nothing")


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : argparse.Namespace
        What `configure` parsed.

    Returns
    -------
    int
        The exit code: 2 where a dry run finds a table that would be refused.
    """
    from featurestore.catalog.import_features import import_table

    report = import_table(
        args.store,
        args.set,
        args.table,
        id_column=args.id_column,
        label_column=args.label_column,
        skip_columns=[c for c in args.skip.split(",") if c],
        ignore_unknown=args.ignore_unknown,
        dry_run=args.dry_run,
    )
    print(text(report, args.dry_run))
    problems = report.problems(args.ignore_unknown)
    if problems:
        print("it would be refused:\n  " + "\n  ".join(problems))
    return UsageError.exit_code if problems else EXIT_DONE  # as the import itself would end


def text(report: ImportReport, dry_run: bool) -> str:
    """Write the report as a person reads it.

    Parameters
    ----------
    report : ImportReport
        What the import did or would do.
    dry_run : bool
        Whether nothing was written.

    Returns
    -------
    str
        Lines.
    """
    lines = [
        f"{report.table}: {report.rows} rows, {report.matched} with a track in the catalog; "
        f"{report.columns} features, {report.nulls} values empty (NULL)"
    ]
    if report.tracks_added:
        lines.append(f"tracks {'to come' if dry_run else 'added'} from the table itself: {report.tracks_added}")
    for why in sorted(set(report.left_out.values())):
        names = [name or "the one without a name" for name, reason in report.left_out.items() if reason == why]
        lines.append(f"columns left out ({why}): {', '.join(names)}")
    for name, stored in report.renamed.items():
        lines.append(f"column {name} is {stored} in the set: the name is a key of the store")
    if report.unknown:
        lines.append(f"rows of tracks that are not in the catalog: {len(report.unknown)}")
    if dry_run:
        lines.append("dry run: nothing was written")
    else:
        lines.append(f'feature set {report.set}: python -m warehouse "SELECT * FROM features_{report.set} LIMIT 5"')
    return "\n".join(lines)
