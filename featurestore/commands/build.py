"""`python -m featurestore build`: catalog a collection and decode what is missing."""

from __future__ import annotations

import argparse
from typing import Any

from featurestore.errors import EXIT_DONE, EXIT_PARTIAL
from featurestore.terminal import cli

SPEC_OPTIONS: tuple[tuple[str, type, str], ...] = (
    ("sample_rate", int, "Hz after resampling"),
    ("n_fft", int, "samples per STFT frame"),
    ("hop_length", int, "samples between frames"),
    ("n_mels", int, "mel bands"),
    ("excerpts", int, "excerpts per track, evenly spaced; 1 is the central one"),
    ("excerpt_seconds", float, "length of an excerpt in seconds"),
    ("wave_seconds", float, "length of the stored waveform window in seconds; 0 stores none"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of `python -m featurestore build`.
    """
    from featurestore.build.backends import BACKENDS
    from featurestore.build.build import LOCAL, TIMEOUT_S
    from featurestore.datasets import DATASETS
    from featurestore.spec import Spec

    cli.add_store(parser)
    parser.add_argument("--dataset", required=True, choices=DATASETS, help="kind of collection")
    parser.add_argument("--audio", metavar="DIR|URL", default=None, help="folder with the music")
    parser.add_argument("--metadata", metavar="DIR", default=None, help="folder with the labels (dataset fma)")
    cli.add_subset(parser)
    cli.add_jobs(parser)
    parser.add_argument(
        "--backend", choices=BACKENDS, default=LOCAL, help="what carries the batches: this machine, or a Dask cluster"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", default=None, help="Dask scheduler, such as tcp://host:8786")
    parser.add_argument("--force", action="store_true", help="measure every track again")
    parser.add_argument("--retry", action="store_true", help="try known failures again, though the files are the same")
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=float,
        default=argparse.SUPPRESS,
        help=f"seconds one file may take (default: {TIMEOUT_S:g}, plus as long as its excerpts sound)",
    )
    parser.add_argument("--limit", metavar="N", type=cli.positive, default=None, help="measure at most N tracks")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    numbers = parser.add_argument_group(
        "spec", "The numbers behind the values. Those left out are the store's own; the demo has 3 excerpts of 10 s."
    )
    for name, kind, text in SPEC_OPTIONS:
        text = f"{text} (new stores: {getattr(Spec(), name)})"
        numbers.add_argument(
            f"--{name.replace('_', '-')}", metavar="N", type=kind, default=argparse.SUPPRESS, help=text
        )
    numbers.add_argument(
        "--groups",
        metavar="A,B",
        default=argparse.SUPPRESS,
        help=f"feature groups (new stores: {','.join(Spec().groups)})",
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
        The exit code: 3 where files of the collection cannot be measured.
    """
    from featurestore.build.build import build

    report = build(
        args.store,
        dataset=args.dataset,
        audio=args.audio,
        metadata=args.metadata,
        subset=args.subset,
        spec=_spec(args),
        jobs=args.jobs,
        backend=args.backend,
        scheduler=args.scheduler,
        force=args.force,
        retry=args.retry,
        timeout_s=getattr(args, "timeout", None),
        limit=args.limit,
        dry_run=args.dry_run,
    )
    print(_text(report))
    return EXIT_PARTIAL if report.failures else EXIT_DONE


def _spec(args: argparse.Namespace) -> dict[str, Any]:
    given = {n: getattr(args, n) for n, *_ in SPEC_OPTIONS if hasattr(args, n)}
    if hasattr(args, "groups"):
        given["groups"] = tuple(g.strip() for g in args.groups.split(",") if g.strip())
    return given


def _text(report: Any) -> str:
    lines = [f"warning: {w}" for w in report.warnings]
    if report.dry_run:
        lines.append(
            f"{report.store}: would look at {report.todo} of {report.tracks} tracks; {report.already} are there"
        )
    elif not report.tracks:
        lines.append(f"{report.store}: labels only, no track has an audio file; add --audio DIR to measure them")
    elif not report.todo:
        what = f"all {report.tracks} tracks are in the store" if not report.failures else "no file has changed"
        lines.append(f"{report.store}: nothing to do: {what} ({report.seconds:.1f} s)")
    else:
        unchanged = f", {report.unchanged} unchanged" if report.unchanged else ""
        lines.append(
            f"{report.store}: {report.decoded} of {report.tracks} tracks decoded ({report.excerpts} excerpts), "
            f"{report.already} already there{unchanged}, {report.failed} failed, in {report.seconds:.1f} s"
        )
    if report.failures:
        kinds = ", ".join(f"{n} {kind}" for kind, n in report.failures.items())
        n = sum(report.failures.values())
        lines.append(f"{n} of {report.tracks} tracks cannot be measured ({kinds}); for the reasons:")
        lines.append('  python -m warehouse "SELECT path, kind, message FROM failures"')
    return "\n".join(lines)
