"""`fit`: train a network on checked shards, keep the best epoch, read the test split once, save model and report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.evaluation import Card, Evaluation, by_track, cross_entropy
from analysis.evaluation import evaluate as judge
from featurestore import schemas
from featurestore.errors import FeatureStoreError
from featurestore.terminal import words
from training.backend import keras, tensorflow
from training.feed import pipeline
from training.feed.augment import Augment
from training.networks import catalogue
from training.networks.catalogue import Settings
from training.results import report, saved
from training.run.callbacks import Run, callbacks_of, open_run
from training.run.devices import Device
from training.shards.check import DataSet
from training.shards.sidecar import DataMismatch, require_spec

EVALUATION_BATCH = 32
SMALLEST_SAMPLE = 64  # training records that the training curve is measured on, at least


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of a run.

    Parameters
    ----------
    epochs : int
        At most.
    rate : float
        Peak learning rate of one device.
    fine_tunes : bool
        Whether the end of a pre-trained backbone is trained, beside the head.
    """

    epochs: int
    rate: float
    fine_tunes: bool


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a run gave.

    Parameters
    ----------
    folder : str
    evaluation : Evaluation
        Of the test split.
    history : list of dict
        One row per epoch.
    best_epoch : int
        From 1.
    """

    folder: str
    evaluation: Evaluation
    history: list[dict[str, float]]
    best_epoch: int


@dataclasses.dataclass(frozen=True)
class _Task:
    """What stays the same through a run."""

    data: DataSet
    settings: Settings
    device: Device
    window: int | None
    batch: int
    kept: Any  # the network that is saved

    @property
    def cast(self) -> bool:
        """Whether the host casts what the device is fed: mixed examples are no numbers of the disk's dtype."""
        return self.settings.mixup > 0 or self.data.sidecar.kind == "features"


def fit(
    data: DataSet,
    settings: Settings,
    *,
    output: str,
    device: Device,
    resume: bool = False,
    restart: bool = False,
) -> Fitted:
    """Train a network, judge it on the test split, and save it with a card and a report.

    Parameters
    ----------
    data : DataSet
    settings : Settings
    output : str
        Folder for model.keras and card.json, which are there from the first epoch on; metrics.json, curves.png,
        confusion.png and what `training.run.callbacks` names.
    device : Device
    resume : bool
        Go on with the interrupted run in `output`, whose settings and data must be the same.
    restart : bool
        Begin anew although there is one.

    Returns
    -------
    Fitted
        The epoch that counts is the one with the lowest validation loss.

    Raises
    ------
    MissingInput
        An empty split, or no weights.
    UsageError
        A data set of another kind, an interrupted run that neither option speaks of, or another run.
    DataMismatch
        Damaged shards.
    FeatureStoreError
        Training diverged, or ran out of memory.
    """
    catalogue.require_kind(settings.model, data.sidecar, data.url)
    data.require("training", "validation", "test")
    home = os.path.join(output, f"worker-{device.worker}") if device.worker else output
    same = {**dataclasses.asdict(settings), "data": data.sidecar.plan, "replicas": device.replicas}
    run = open_run(home, same, resume=resume, restart=restart)
    keras().utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tensorflow().config.experimental.enable_op_determinism()
    window = catalogue.window_of(settings.model, data.sidecar)
    batch = catalogue.batch_size(settings, data.records("training")) * device.replicas
    task = _Task(data, settings, device, window, batch, saved.network(data, settings, window))
    try:
        _train(task, run, output)
        task.kept.load_weights(run.best_weights)
        evaluation = evaluate(task.kept, data, "test", window=window, seed=settings.seed)
    except KeyboardInterrupt:
        words.note(f"interrupted; {output} holds the best epoch so far. The same command with --resume goes on")
        raise
    except tensorflow().errors.DataLossError:
        raise data.damaged() from None
    except tensorflow().errors.ResourceExhaustedError:
        raise FeatureStoreError("the device ran out of memory", "Use a smaller --batch-size.") from None
    return _report(task, run, output, evaluation)


def _report(task: _Task, run: Run, output: str, evaluation: Evaluation) -> Fitted:
    history, data = run.history(), task.data
    best = report.best_epoch(history)
    if not task.device.worker:
        saved.save(output, task.kept, data, task.settings, window=task.window, best_epoch=best, evaluation=evaluation)
        report.write(output, evaluation, history, title=f"{task.settings.model} on {data.url}")
    return Fitted(output, evaluation, history, best)


def stages_of(settings: Settings) -> list[Stage]:
    """The parts of a run.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    list of Stage
        One, or two where a pre-trained network gets a new head first and is fine-tuned then.
    """
    first = Stage(settings.epochs, settings.learning_rate, False)
    if settings.model != "mobilenet" or settings.weights == "none" or not settings.fine_tune_epochs:
        return [first]
    return [first, Stage(settings.fine_tune_epochs, settings.fine_tune_rate, True)]


def evaluate(model: Any, data: DataSet, split: str, *, window: int | None, seed: int = 0) -> Evaluation:
    """Score a split with a trained model and judge it, by excerpt and by track.

    Parameters
    ----------
    model : keras.Model
        That takes the store's units.
    data : DataSet
    split : str
    window : int or None
        Frames or samples it sees at once.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataMismatch
        Where a record cannot be read.
    """
    side, keys = data.sidecar, pipeline.keys(data, split)
    batches = pipeline.load(data, split, batch_size=EVALUATION_BATCH, window=window)
    scores = _score(model, batches, len(keys.labels), pipeline.windows_of(side, window))
    scored = by_track(keys.track_ids, keys.labels, keys.artists, scores)
    return judge(scored, side.classes, split=split, scheme=side.scheme_text, seed=seed)


def evaluate_saved(model: Any, card: Card, data: DataSet, split: str, *, seed: int = 0) -> Evaluation:
    """`evaluate` for a loaded model.

    Parameters
    ----------
    model : keras.Model
    card : Card
        Of the model.
    data, split, seed
        As for `evaluate`.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataMismatch
        Where the shards do not fit the model: spec, genres, shape.
    """
    side = data.sidecar
    if card.spec is not None:
        require_spec(side, card.spec, here=f"the model {card.name}", there=data.url)
    for name in ("kind", "classes", "image", "feature_set", "columns"):
        expected, found = getattr(card, name), getattr(side, name)
        if expected != found:
            raise DataMismatch(
                f"{data.url}: the model {card.name} expects {name} {expected}, the shards have {found}",
                "Name the shards the model was made for with --data, or train again.",
            )
    data.require(split)
    return evaluate(model, data, split, window=card.window, seed=seed)


def _score(model: Any, batches: Any, records: int, windows: int) -> np.ndarray:
    """Scores (records, classes): the mean over each record's windows."""
    out = model.predict(batches, verbose=0)
    return np.asarray(out, np.float64)[: records * windows].reshape(records, windows, -1).mean(axis=1)


def _train(task: _Task, run: Run, output: str) -> None:
    """All stages that are not done yet; each begins with the best epoch of the one before."""
    stages, curve = stages_of(task.settings), _curve(task)

    def publish(epoch: int) -> None:
        if not task.device.worker:
            task.kept.load_weights(run.best_weights)
            saved.save(output, task.kept, task.data, task.settings, window=task.window, best_epoch=epoch)

    while not run.finished:
        stage = stages[run.stage]
        model = _build(task, run.stage)
        if run.stage:
            model.load_weights(run.best_weights)
        steps = pipeline.steps_per_epoch(task.data, task.batch)
        prepare(model, task.settings, stage, steps, task.device)
        first, last = run.next_epoch, run.first + stage.epochs
        callbacks = callbacks_of(run, patience=task.settings.patience, curve=curve, publish=publish)
        if first < last:
            model.fit(
                _stream(task, first, last),
                steps_per_epoch=steps,
                initial_epoch=first,
                epochs=last,
                callbacks=callbacks,
                shuffle=False,  # the stream shuffles
                verbose=0,
            )
        run.end_stage(last=run.stage + 1 == len(stages))


def _build(task: _Task, stage: int) -> Any:
    side = task.data.sidecar
    shape = catalogue.input_shape(side, task.window)
    units = side.normalisation if task.cast else side.stored_normalisation
    with task.device.scope():
        return catalogue.build(task.settings, shape, len(side.classes), units, empty=stage > 0)


def _stream(task: _Task, first: int, last: int) -> Any:
    settings = task.settings
    return pipeline.load(
        task.data,
        "training",
        batch_size=task.batch,
        window=task.window,
        training=True,
        epochs=(first, last + 1),  # one more than needed: Keras may find that it has to go back an epoch
        augment=Augment(masks=settings.masks, mixup=settings.mixup),
        cast=task.cast,
        class_weights=class_weights(task.data, settings),
        seed=settings.seed,
        deterministic=settings.deterministic,
    )


def prepare(model: Any, settings: Settings, stage: Stage, steps: int, device: Device) -> None:
    """Choose what is trained and compile: AdamW, a short warm-up, then a cosine to zero over the stage.

    Parameters
    ----------
    model : keras.Model
    settings : Settings
    stage : Stage
    steps : int
        Of an epoch.
    device : Device
    """
    if settings.model == "mobilenet" and settings.weights != "none":
        backbone = model.get_layer("backbone")
        backbone.trainable = stage.fine_tunes
        for layer in backbone.layers[: -settings.fine_tune_layers]:
            layer.trainable = False
    total = steps * stage.epochs
    warm = min(total // 10, 2 * steps)
    # Adam's steps grow with the square root of the batch
    rate = stage.rate * device.replicas**0.5
    with device.scope():
        schedule = keras().optimizers.schedules.CosineDecay(
            rate / 10, max(1, total - warm), warmup_target=rate, warmup_steps=max(1, warm)
        )
        optimizer = keras().optimizers.AdamW(schedule, weight_decay=settings.weight_decay, clipnorm=1.0)
        loss = keras().losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=device.jit)


def _curve(task: _Task) -> Callable[[Any], dict[str, float]]:
    """What measures both curves: the model as it is, in inference mode, on records without augmentation.

    The training records are as many as the validation split has, so that their curve costs no more.
    """
    data, windows = task.data, pipeline.windows_of(task.data.sidecar, task.window)
    sample = min(data.records("training"), max(SMALLEST_SAMPLE, data.records("validation")))
    parts = []
    for prefix, split, limit in (("", "training", sample), ("val_", "validation", None)):
        batches = pipeline.load(
            data, split, batch_size=EVALUATION_BATCH, window=task.window, limit=limit, cast=task.cast
        )
        parts.append((prefix, batches, pipeline.keys(data, split, limit).labels))

    def measure(model: Any) -> dict[str, float]:
        found = {}
        for prefix, batches, labels in parts:
            scores = _score(model, batches, len(labels), windows)
            found[f"{prefix}loss"] = cross_entropy(scores, labels)
            found[f"{prefix}accuracy"] = float((scores.argmax(axis=1) == labels).mean())
        return found

    return measure


def class_weights(data: DataSet, settings: Settings) -> np.ndarray:
    """How much an example counts.

    Parameters
    ----------
    data : DataSet
    settings : Settings

    Returns
    -------
    ndarray of float, shape (classes,)
        1 on average over the training records; all 1 where weights are not wanted.
    """
    counts = np.array([data.sidecar.counts["training"][g] for g in data.sidecar.classes], float)
    if not settings.class_weights:
        return np.ones(len(counts))
    return counts.sum() / (len(counts) * counts)


def describe(data: DataSet, settings: Settings, device: Device) -> list[str]:
    """Say what a run is about to do.

    Parameters
    ----------
    data : DataSet
    settings : Settings
    device : Device

    Returns
    -------
    list of str
        Lines for people: model and data, device and batch, what of the data is damaged.
    """
    side = data.sidecar
    per_device = catalogue.batch_size(settings, data.records("training"))
    lines = [
        f"{settings.model} on {data.url}: "
        + ", ".join(f"{data.records(s)} {s}" for s in schemas.SPLITS)
        + f" records of {len(side.classes)} genres ({side.scheme_text} split)",
        f"device: {device.text}; {device.precision}; batch {per_device} x {device.replicas}",
    ]
    return [*lines, *data.notes()]
