"""`python -m featurestore fetch`: download FMA's metadata or clips."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from featurestore.errors import EXIT_DONE, EXIT_PARTIAL
from featurestore.terminal import cli, words


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `python -m featurestore fetch`.
    """
    from featurestore.fetch import ARCHIVES, BASE_URL

    sizes = ", ".join(f"{n} ({a.bytes / 2**30:.1f} GiB)" for n, a in ARCHIVES.items())
    parser.description = (
        "Download one of FMA's archives, check it and unpack it. Interrupted downloads go on where they stopped.\n"
        "With --per-genre only that many clips of each genre are read out of the archive, not the rest of it."
    )
    parser.add_argument("name", choices=tuple(ARCHIVES), metavar="NAME", help=sizes)
    cli.add_output(parser, "data/fma")
    parser.add_argument("--per-genre", metavar="N", type=cli.positive, help="take N clips of each top genre only")
    parser.add_argument("--metadata", metavar="DIR", help="labels to choose from; default: fma_metadata in --output")
    cli.add_seed(parser)
    parser.add_argument("--whole-file", action="store_true", help="download the whole archive, for --per-genre too")
    parser.add_argument("--keep-archive", action="store_true", help="keep the zip once it is unpacked")
    parser.add_argument("--base-url", metavar="URL", default=BASE_URL, help="where the archives are")
    parser.add_argument("--timeout", metavar="S", type=cli.positive, default=30, help="seconds a host may be silent")
    parser.add_argument("--retries", metavar="N", type=cli.count, default=4, help="further tries after a failure")
    parser.add_argument("--dry-run", action="store_true", help="say what would be downloaded")


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    args : argparse.Namespace
        What `configure` parsed.

    Returns
    -------
    int
        The exit code: 3 where tracks that were chosen are not in the archive.
    """
    from featurestore.fetch import fetch

    report = fetch(
        args.name,
        output=args.output,
        metadata=args.metadata,
        base_url=args.base_url,
        per_genre=args.per_genre,
        seed=args.seed,
        whole_file=args.whole_file,
        keep_archive=args.keep_archive,
        dry_run=args.dry_run,
        timeout_s=args.timeout,
        retries=args.retries,
    )
    if args.dry_run:
        print(f"{report.folder}: {report.files} files in place; about {report.to_get / 1e6:.1f} MB to download")
        return EXIT_DONE
    print(
        f"{report.folder}: {report.files} files in place, {report.written} of them new; "
        f"{report.received / 1e6:.1f} MB downloaded"
    )
    if report.absent:
        print(f"tracks that are not in the archive: {words.examples([str(i) for i in report.absent])}")
    print(f"next: {_next(args.name, args.output, args.metadata)}")
    return EXIT_PARTIAL if report.absent else EXIT_DONE


def _next(name: str, output: str, metadata: str | None) -> str:
    """The command that uses what was fetched."""
    labels = metadata or str(Path(output) / "fma_metadata")
    if name == "fma_metadata":
        return f"python -m featurestore catalog --dataset fma --metadata {shlex.quote(str(Path(output) / name))}"
    build = (
        f"python -m featurestore build --dataset fma --audio {shlex.quote(str(Path(output) / name))} "
        f"--metadata {shlex.quote(labels)}"
    )
    if (Path(labels).expanduser() / "tracks.csv").exists():
        return build
    return f"python -m featurestore fetch fma_metadata --output {shlex.quote(output)}\n then: {build}"
