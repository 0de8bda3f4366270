"""`fit`: train a network on checked shards, keep the best epoch, read the test split once, save model and report."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from featurestore import schemas
from featurestore.errors import FeatureStoreError
from training.backend import keras, tensorflow
from training.feed import pipeline
from training.feed.augment import Augment
from training.feed.dataset import DataSet
from training.networks import catalogue
from training.networks.catalogue import Settings
from training.results import metrics, report, saved
from training.run import callbacks
from training.run.callbacks import State
from training.run.devices import Device
from training.shards.sidecar import DataMismatch, require_spec

EVALUATION_BATCH = 32
SMALLEST_SAMPLE = 64  # training records that the training curve is measured on, at least


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of a run: so many epochs at one peak learning rate; fine-tuning opens the backbone's end."""

    epochs: int
    rate: float
    fine_tunes: bool


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a run made: the folder, the test's evaluation, the history (one row per epoch) and the best epoch."""

    folder: str
    evaluation: metrics.Evaluation
    history: list[dict[str, float]]
    best_epoch: int
    gap: float


def fit(data: DataSet, settings: Settings, *, output: str, device: Device, resume: bool = False) -> Fitted:
    """Train `settings.model` on `data` and write to the folder `output`: model.keras, card.json, metrics.json,
    history.json, curves.png, confusion.png and logs/ for TensorBoard.

    resume goes on with the interrupted run in `output`, whose settings and data must be the same. The last epoch that
    counts is the one with the lowest validation loss. Raises MissingInput (an empty split, no weights), UsageError,
    DataMismatch (damaged shards), FeatureStoreError (diverged, out of memory).
    """
    catalogue.require_kind(settings.model, data.sidecar, data.url)
    data.require("training", "validation", "test")
    run = {**dataclasses.asdict(settings), "data": data.sidecar.plan, "replicas": device.replicas}
    state = State.read(output, run) if resume else State.fresh(output, run)
    _seed(settings)
    window = catalogue.window_of(settings.model, data.sidecar)
    shape = catalogue.input_shape(data.sidecar, window)
    with device.scope():
        model = catalogue.build(settings, shape, len(data.sidecar.classes), data.sidecar.normalisation)
    try:
        _train(model, data, settings, window=window, state=state, device=device, folder=output)
        model.set_weights(state.best)
        evaluation = evaluate(model, data, "test", window=window, seed=settings.seed)
    except tensorflow().errors.DataLossError:
        raise data.damaged() from None
    except tensorflow().errors.ResourceExhaustedError:
        raise FeatureStoreError("the device ran out of memory", "Use a smaller --batch-size.") from None
    gap = report.gap_at(state.history, state.best_epoch)
    done = Fitted(output, evaluation, state.history, state.best_epoch, gap)
    if device.chief:
        saved.save(output, model, data, settings, window=window, evaluation=evaluation, best_epoch=state.best_epoch)
        report.write(output, evaluation, state.history, state.best_epoch, title=f"{settings.model} on {data.url}")
    return done


def stages_of(settings: Settings) -> list[Stage]:
    """One stage, or two where a pre-trained network gets a new head first and is fine-tuned then."""
    first = Stage(settings.epochs, settings.learning_rate, False)
    if settings.model != "mobilenet" or settings.weights == "none" or not settings.fine_tune_epochs:
        return [first]
    return [first, Stage(settings.fine_tune_epochs, settings.fine_tune_rate, True)]


def evaluate(model: Any, data: DataSet, split: str, *, window: int | None, seed: int = 0) -> metrics.Evaluation:
    """Score a split with a trained model and judge it, by excerpt and by track."""
    sidecar = data.sidecar
    batches = pipeline.load(data, split, batch_size=EVALUATION_BATCH, window=window)
    n, windows = data.records(split), pipeline.windows_of(sidecar, window)
    try:
        scores = score(model, batches, n, windows)
    except tensorflow().errors.DataLossError:
        raise data.damaged() from None
    keys = pipeline.keys(data, split)
    return metrics.evaluate(scores, keys, classes=sidecar.classes, split=split, scheme=sidecar.scheme, seed=seed)


def evaluate_saved(model: Any, card: saved.Card, data: DataSet, split: str, *, seed: int = 0) -> metrics.Evaluation:
    """`evaluate` for a loaded model. Raises DataMismatch where the shards do not fit it: spec, genres, shape."""
    side = data.sidecar
    require_spec(side, card.spec, here=f"the model {card.name}", there=data.url)
    pairs = {
        "kind": (card.kind, side.kind),
        "genres": (card.classes, side.classes),
        "image side": (card.image, side.image),
        "feature set": (card.feature_set, side.feature_set),
        "columns": (card.columns, side.columns),
    }
    for what, (expected, found) in pairs.items():
        if expected != found:
            raise DataMismatch(
                f"{data.url}: the model {card.name} expects {what} {expected}, the shards have {found}",
                "Name the shards the model was made for with --data, or train again.",
            )
    data.require(split)
    return evaluate(model, data, split, window=card.window, seed=seed)


def score(model: Any, batches: Any, records: int, windows: int) -> np.ndarray:
    """Scores (records, classes): the mean over each record's windows."""
    out = model.predict(batches, verbose=0)
    return np.asarray(out, np.float64)[: records * windows].reshape(records, windows, -1).mean(axis=1)


def _seed(settings: Settings) -> None:
    keras().utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tensorflow().config.experimental.enable_op_determinism()


def _train(
    model: Any,
    data: DataSet,
    settings: Settings,
    *,
    window: int | None,
    state: State,
    device: Device,
    folder: str,
) -> None:
    batch = catalogue.batch_size(settings, data.records("training")) * device.replicas
    steps = pipeline.steps_per_epoch(data, batch)
    augment = Augment(masks=settings.masks, mixup=settings.mixup)
    with device.scope():
        learner = catalogue.fed_with_stored(model, data.sidecar, augment)
        judged = catalogue.fed_with_stored(model, data.sidecar, Augment())
        judged.compile(jit_compile=device.jit)
    scorers = _scorers(judged, data, window)
    for number, stage in enumerate(stages_of(settings)):
        if number < state.stage or (number == state.stage and state.stage_done):
            continue
        if number > state.stage:
            model.set_weights(state.best)
            state.stage, state.stage_first, state.waited = number, state.epoch, 0
            state.stage_done, state.variables = False, []
        last = state.stage_first + stage.epochs
        prepare(model, settings, stage, steps, device, learner)
        if state.variables:
            callbacks.restore(learner, state.variables)
        keep = callbacks.make_keeper(
            state,
            folder=folder if device.chief else None,
            patience=settings.patience,
            last_epoch=last,
            train_score=scorers[0],
            validation_score=scorers[1],
        )
        stream = pipeline.load(
            data,
            "training",
            batch_size=batch,
            window=window,
            training=True,
            epochs=(state.epoch, last),
            augment=augment,
            cast=False,
            class_weights=class_weights(data, settings),
            seed=settings.seed,
            deterministic=settings.deterministic,
        )
        first = state.epoch
        learner.fit(
            stream,
            steps_per_epoch=steps,
            initial_epoch=first,
            epochs=last,
            callbacks=[keep],
            shuffle=False,  # the stream shuffles
            verbose=0,
        )


def prepare(
    model: Any, settings: Settings, stage: Stage, steps: int, device: Device, learner: Any | None = None
) -> None:
    """Choose what is trained and compile: AdamW, a short warm-up, then a cosine to zero over the stage.

    learner is what is compiled in the model's stead: the model behind its cast (`catalogue.fed_with_stored`).
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
        (learner or model).compile(optimizer=optimizer, loss=loss, jit_compile=device.jit)


def _scorers(model: Any, data: DataSet, window: int | None) -> tuple[callbacks.Score, callbacks.Score]:
    """(training, validation): each scores the model, behind its cast, as it is, on records without augmentation.

    The training records are as many as the validation split has, so that their curve costs no more.
    """
    windows = pipeline.windows_of(data.sidecar, window)

    def scorer(split: str, limit: int | None) -> callbacks.Score:
        keys = pipeline.keys(data, split, limit)
        batches = pipeline.load(data, split, batch_size=EVALUATION_BATCH, window=window, limit=limit, cast=False)

        def measure() -> tuple[float, float]:
            scores = score(model, batches, len(keys.labels), windows)
            return metrics.cross_entropy(scores, keys.labels), float((scores.argmax(axis=1) == keys.labels).mean())

        return measure

    sample = min(data.records("training"), max(SMALLEST_SAMPLE, data.records("validation")))
    return scorer("training", sample), scorer("validation", None)


def class_weights(data: DataSet, settings: Settings) -> np.ndarray:
    """Weight of each class (classes,), 1 on average over the training records; all 1 where they are not wanted."""
    counts = np.array([data.sidecar.counts["training"][g] for g in data.sidecar.classes], float)
    if not settings.class_weights:
        return np.ones(len(counts))
    return counts.sum() / (len(counts) * counts)


def describe(data: DataSet, settings: Settings, device: Device) -> list[str]:
    """What a run is about to do, for people."""
    side = data.sidecar
    per_device = catalogue.batch_size(settings, data.records("training"))
    lines = [
        f"{settings.model} on {data.url}: "
        + ", ".join(f"{data.records(s)} {s}" for s in schemas.SPLITS)
        + f" records of {len(side.classes)} genres ({side.scheme} split)",
        f"device: {device.text}; {device.precision}; batch {per_device} x {device.replicas}",
    ]
    return [*lines, *data.notes()]
