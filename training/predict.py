"""Genres of audio files, by a trained network: any length of music, windows averaged.

MODEL is a name under models/, a folder, or the path of a model.keras. A best score below the threshold is answered
"unknown". Files that cannot be decoded are reported, and the exit code is then 3.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from featurestore.errors import UsageError
from featurestore.terminal import cli
from training.fit import store_to_check


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m training.predict", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a name under models/, a folder, or a model.keras")
    parser.add_argument("paths", metavar="FILE|FOLDER", nargs="+", help="audio files, or folders of them")
    cli.add_store(parser)
    parser.add_argument(
        "--threshold", metavar="X", type=float, help='below it: "unknown"; left out: twice chance, at most 0.5'
    )
    parser.add_argument(
        "--excerpts", metavar="N", type=cli.positive, default=8, help="stretches of a long file that are heard"
    )
    parser.add_argument("--scores", action="store_true", help="one more column for each genre")
    parser.add_argument("--output", metavar="FILE", help="write the answers there instead of printing them")
    cli.add_format(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, answer for every file, print or write the answers.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0; 3 where some files failed, 1 where all did.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UsageError(f"--threshold must be between 0 and 1, found {args.threshold}")
    from training.results import predictor, saved

    model, card = saved.load(args.model)
    predictor.require_same_spec(card, store_to_check(args.store, parser.get_default("store")))
    found = predictor.predict(
        model, card, args.paths, threshold=args.threshold, excerpts=args.excerpts, every_score=args.scores
    )
    return found.report(args.format, args.output)


if __name__ == "__main__":
    sys.exit(cli.run(main))
