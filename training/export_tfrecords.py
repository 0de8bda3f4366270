"""Write the store's rows as TFRecord shards, once; then every network reads them at full speed.

Shards are named <output>/<kind>/<split>-<number>-of-<count>-<records>.tfrec, with a sidecar dataset.json. Splits come
from the store. The same store, options and seed give the same bytes; a killed export goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from featurestore.errors import EXIT_DONE
from featurestore.terminal import cli, tables, words


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m training.export_tfrecords", description=__doc__)
    cli.add_store(parser)
    cli.add_output(parser, "data/tfrecords")
    parser.add_argument(
        "--kind",
        nargs="+",
        choices=("mel", "wave", "features"),
        default=["mel"],
        help="mel spectrogram (cnn, mobilenet), waveform window (raw_cnn), feature vector (mlp)",
    )
    cli.add_scheme(parser)
    cli.add_subset(parser)
    cli.add_features(parser)
    parser.add_argument(
        "--dtype",
        choices=("float16", "uint8", "float32"),
        default=None,
        help="values on disk; left out: float16, and float32 for features",
    )
    parser.add_argument(
        "--image", metavar="SIDE", type=cli.positive, default=None, help="resize mel spectrograms to SIDE x SIDE"
    )
    parser.add_argument(
        "--shards",
        metavar="N",
        type=cli.positive,
        default=None,
        help="shards of a split; left out: of about 100 MB each",
    )
    parser.add_argument(
        "--compression", choices=("none", "gzip"), default="none", help="gzip is small on disk and slow to read"
    )
    cli.add_seed(parser)
    cli.add_jobs(parser)
    cli.add_format(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")
    parser.add_argument("--force", action="store_true", help="write again what is there already")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, export each kind, print what is in the shards.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0.
    """
    options = vars(_parser().parse_args(argv))
    from featurestore.store.store import Store
    from training.shards.export import export

    store, kinds, format, image = Store.open(options.pop("store")), *map(options.pop, ("kind", "format", "image"))
    options["feature_set"] = options.pop("features")
    for kind in kinds:
        done = export(store, kind=kind, image=image if kind == "mel" else None, **options)
        tables.emit(done.table, format)
        for line in done.notes():
            words.note(line)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
