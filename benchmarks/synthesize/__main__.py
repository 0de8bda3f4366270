"""`python -m benchmarks.synthesize`: render a synthetic collection."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from benchmarks.synthesize import synthesize
from benchmarks.synthesize.encoding import CONTAINERS
from benchmarks.synthesize.styles import STYLES
from featurestore.terminal import cli


def parser() -> cli.Parser:
    """Make the parser of the command."""
    parser = cli.Parser(
        prog="python -m benchmarks.synthesize",
        description="Render deterministic music-like clips with known genre, artist, tempo and key. The collection is "
        "synthetic: it is for tests and for measuring scale, and figures on it say nothing of music.",
    )
    parser.add_argument("folder", metavar="DIR", help="folder of the collection; files that exist are kept")
    parser.add_argument("--tracks", metavar="N", type=cli.positive, default=2000, help="clips in the whole collection")
    parser.add_argument("--genres", metavar="N", type=cli.positive, default=8, help=f"genres, at most {len(STYLES)}")
    parser.add_argument("--artists-per-genre", metavar="N", type=cli.positive, default=10, help="artists in each genre")
    parser.add_argument("--format", choices=tuple(CONTAINERS), default="mp3", help="kind of audio file")
    parser.add_argument("--seconds", metavar="S", type=float, default=30.0, help="length of a clip")
    parser.add_argument("--sample-rate", metavar="HZ", type=cli.positive, help="default: 44100 (opus: 48000)")
    parser.add_argument("--channels", choices=(1, 2), type=int, default=2, help="mono or stereo")
    cli.add_seed(parser)
    cli.add_jobs(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Render the collection, say what to build from it, and return the exit code."""
    args = parser().parse_args(argv)
    report = synthesize(
        args.folder,
        tracks=args.tracks,
        genres=args.genres,
        format=args.format,
        seconds=args.seconds,
        sample_rate=args.sample_rate,
        channels=args.channels,
        artists_per_genre=args.artists_per_genre,
        seed=args.seed,
        jobs=args.jobs,
    )
    print(
        f"{report.tracks} synthetic clips of {len(report.genres)} genres and {report.artists} artists in "
        f"{report.folder}: {report.rendered} rendered ({report.bytes / 1e6:.1f} MB), {report.existing} existed"
    )
    print(f"next: python -m featurestore build --dataset tags --audio {shlex.quote(report.folder)}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
