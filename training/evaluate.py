"""Judge a trained network on a split of exported shards: accuracy with interval, macro-F1, per genre.

MODEL is a name under models/, a folder, or the path of a model.keras. Shards made with another spec, or with other
genres, are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from featurestore import schemas
from featurestore.errors import EXIT_DONE
from featurestore.terminal import cli, tables, words
from training.fit import add_data, add_device, store_to_check


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="a name under models/, a folder, or a model.keras")
    add_data(parser)
    parser.add_argument("--split", choices=schemas.SPLITS, default="test", help="the split to judge on")
    parser.add_argument("--output", metavar="DIR", help="write the confusion matrix (PNG) and the metrics there")
    add_device(parser)
    cli.add_seed(parser)
    cli.add_format(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, judge the model, print one row per genre and the summary.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    import pyarrow as pa

    from training.results import report, saved
    from training.run import devices, loop
    from training.shards import check

    devices.choose(args.device, args.precision)
    model, card = saved.load(args.model)
    store = store_to_check(args.store, parser.get_default("store"))
    data = check.open_data(check.folder_of(args.data, card.kind), store=store, verify=args.verify)
    evaluation = loop.evaluate_saved(model, card, data, args.split, seed=args.seed)
    tables.emit(pa.Table.from_pylist(evaluation.per_class()), args.format)
    for line in (*data.notes(), evaluation.summary()):
        words.note(line)
    if args.output:
        report.write_evaluation(args.output, evaluation)
        words.note(f"metrics and confusion matrix: {args.output}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
