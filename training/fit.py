"""Train a network on exported shards, read the test split once, save the model with a card and a report.

  cnn        mel spectrogram, a small residual network
  raw_cnn    10,000 samples of the waveform: the original study's network, or --variant strided
  mobilenet  MobileNetV2 on the mel spectrogram as an image: a new head first, then fine-tuning
  mlp        feature vector

The shards come from `python -m training.export_tfrecords`. An interrupted run goes on from its last finished epoch with
--resume; its best epoch so far is there as a model.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featurestore.errors import EXIT_DONE, MissingStore, UsageError
from featurestore.terminal import cli, tables, words
from training.networks import catalogue

if TYPE_CHECKING:
    from featurestore.store.store import Store


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m training.fit", description=__doc__)
    parser.add_argument("model", choices=tuple(catalogue.KINDS), help="the network")
    add_data(parser)
    parser.add_argument("--output", metavar="DIR", help="folder for the model and its report; left out: models/MODEL")
    add_device(parser)
    parser.add_argument("--epochs", metavar="N", type=cli.positive, help="epochs at most; left out: the model's own")
    parser.add_argument("--fine-tune-epochs", metavar="N", type=int, help="mobilenet: epochs of fine-tuning")
    parser.add_argument("--batch-size", metavar="N", type=cli.positive, help="examples per device; left out: by size")
    parser.add_argument("--learning-rate", metavar="R", type=float, help="peak rate; left out: the model's own")
    parser.add_argument("--patience", metavar="N", type=cli.positive, help="epochs without a better validation loss")
    parser.add_argument("--width", metavar="N", type=cli.positive, help="cnn: channels of the first stage; mlp: units")
    parser.add_argument("--variant", choices=("original", "strided"), help="raw_cnn: as in the study, or a better one")
    parser.add_argument("--weights", metavar="imagenet|none|PATH", help="mobilenet: what it was trained on before")
    parser.add_argument("--label-smoothing", metavar="X", type=float, help="0 to 1; left out: the model's own")
    parser.add_argument("--mixup", metavar="ALPHA", type=float, help="mix examples; 0 mixes none")
    parser.add_argument("--masks", metavar="N", type=int, help="SpecAugment masks per axis; 0 masks nothing")
    parser.add_argument(
        "--no-class-weights", dest="class_weights", action="store_false", help="let frequent genres count more"
    )
    cli.add_seed(parser)
    parser.add_argument("--deterministic", action="store_true", help="the same bits every time, somewhat slower")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the interrupted run in --output, if any")
    again.add_argument("--restart", action="store_true", help="forget the interrupted run in --output")
    cli.add_format(parser)
    return parser


def add_data(parser: cli.Parser) -> None:
    """Add --store, --data and --verify: which shards are read, and how far they are trusted.

    Parameters
    ----------
    parser : Parser
    """
    cli.add_store(parser)
    parser.add_argument(
        "--data", metavar="DIR|URL", default="data/tfrecords", help="exported shards: their folder, or the one above it"
    )
    parser.add_argument(
        "--verify", choices=("hash", "size"), default="hash", help="read every shard once first, or trust their sizes"
    )


def add_device(parser: cli.Parser) -> None:
    """Add --device and --precision.

    Parameters
    ----------
    parser : Parser
    """
    parser.add_argument(
        "--device", metavar="NAME", default="auto", help="auto, cpu, gpu, gpu:I, tpu, or cpu:N (virtual)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "mixed_float16", "mixed_bfloat16"),
        default="auto",
        help="auto mixes 16 and 32 bits on GPU and TPU",
    )


def store_to_check(url: str, default: str) -> Store | None:
    """Open the store that shards or a model must match.

    Parameters
    ----------
    url : str
        What --store says; "none" leaves the match unchecked.
    default : str
        The option's default. A store that is missing there is no error: on a hosted GPU there are only shards.

    Returns
    -------
    Store or None
        None where nothing is to be checked.

    Raises
    ------
    MissingStore
        Where a store that was named is not there.
    """
    from featurestore.store.store import Store

    if url == "none":
        return None
    try:
        return Store.open(url)
    except MissingStore:
        if url != default:
            raise
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, train, print the figures of the test split.

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
    for name, low, high in (("label_smoothing", 0, 0.9), ("learning_rate", 0, 100), ("mixup", 0, 100)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')} must be between {low} and {high}, found {value}")
    import pyarrow as pa

    from training.results import report
    from training.run import devices, loop
    from training.shards import check
    from training.shards.sidecar import Sidecar

    store = store_to_check(args.store, parser.get_default("store"))
    folder = check.folder_of(args.data, catalogue.KINDS[args.model])
    Sidecar.read(folder)  # what is missing is said before TensorFlow is loaded
    device = devices.choose(args.device, args.precision)  # before anything asks TensorFlow for a device
    chosen: dict[str, Any] = {f.name: getattr(args, f.name, None) for f in dataclasses.fields(catalogue.Settings)}
    settings = catalogue.settings_for(**chosen)
    data = check.open_data(folder, store=store, verify=args.verify)
    for line in loop.describe(data, settings, device):
        words.note(line)
    output = args.output or f"models/{args.model}"
    done = loop.fit(data, settings, output=output, device=device, resume=args.resume, restart=args.restart)
    tables.emit(pa.Table.from_pylist(done.evaluation.per_class()), args.format)
    words.note(report.verdict(done.history))
    words.note(done.evaluation.summary())
    words.note(f"model, card, metrics and plots: {done.folder}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
