"""What a training run keeps while it goes on, all of it by Keras's own callbacks, and how it is taken up again.

In the folder of the run (worker 1 of several has `worker-1/` in it, and so on):

    history.csv              one row per epoch (CSVLogger); epochs count from 0, as Keras counts
    logs/                    the same for TensorBoard, runs `train` and `validation`
    state/run.json           which run it is, and how far it has come
    state/best.weights.h5    the best epoch of the training network (ModelCheckpoint)
    state/stage-0/           the last epoch with its optimizer (BackupAndRestore)

A run that goes on begins with the epoch after the last one kept: weights, optimizer, learning rate and the order of the
data are those of an undisturbed run. The random numbers of dropout and the count of epochs without progress start anew.
"""

from __future__ import annotations

import csv
import dataclasses
import glob
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from featurestore.errors import FeatureStoreError, UsageError
from featurestore.store import files
from featurestore.terminal import words
from training.backend import keras

OURS = (  # what a new run removes of an earlier one
    "history.csv",
    "state/run.json",
    "state/best.weights.h5",
    "state/stage-*/*",
    "logs/train/events.out.tfevents.*",
    "logs/validation/events.out.tfevents.*",
)


@dataclasses.dataclass
class Run:
    """Where a run stands.

    Parameters
    ----------
    folder : str
    settings : dict
        What must be the same for the run to go on.
    stage : int
        The stage it is in; fine-tuning is the second.
    first : int
        Epochs before this stage.
    finished : bool
    """

    folder: str
    settings: dict[str, Any]
    stage: int = 0
    first: int = 0
    finished: bool = False

    def path(self, *parts: str) -> str:
        """Name a place in the run's folder.

        Parameters
        ----------
        *parts : str
            Folders, then the file.

        Returns
        -------
        str
        """
        return os.path.join(self.folder, *parts)

    @property
    def best_weights(self) -> str:
        """The file of the best epoch's weights."""
        return self.path("state", "best.weights.h5")

    @property
    def backup(self) -> str:
        """The folder of this stage's last epoch."""
        return self.path("state", f"stage-{self.stage}")

    @property
    def next_epoch(self) -> int:
        """The epoch that follows the last one kept, from 0."""
        try:
            with open(os.path.join(self.backup, "training_metadata.json"), "rb") as f:
                return int(json.load(f)["epoch"])
        except FileNotFoundError:
            return self.first

    def history(self) -> list[dict[str, float]]:
        """Read history.csv.

        Returns
        -------
        list of dict
            One row per epoch, in order; `epoch` counts from 1. Empty where no epoch has ended.
        """
        try:
            with open(self.path("history.csv"), newline="") as f:
                rows = {int(row["epoch"]): row for row in csv.DictReader(f)}  # an epoch that was repeated counts once
        except FileNotFoundError:
            return []
        return [{k: float(v) for k, v in row.items()} | {"epoch": epoch + 1} for epoch, row in sorted(rows.items())]

    def best(self) -> float | None:
        """Find the lowest validation loss so far.

        Returns
        -------
        float or None
            None before the first epoch has ended.
        """
        return min((row["val_loss"] for row in self.history()), default=None)

    def end_stage(self, last: bool) -> None:
        """Write down that a stage is done; the next begins after the epochs so far.

        Parameters
        ----------
        last : bool
            Whether the run is done with it.
        """
        self.stage, self.first, self.finished = self.stage + 1, len(self.history()), last
        self.write()

    def write(self) -> None:
        """Replace run.json."""
        path = os.path.abspath(self.path("state", "run.json"))
        facts = {k: v for k, v in vars(self).items() if k != "folder"}
        files.write_bytes(files.resolve(path)[0], path, json.dumps(facts, indent=1).encode())


def open_run(folder: str, settings: dict[str, Any], *, resume: bool, restart: bool) -> Run:
    """Begin a run in a folder, or go on with the interrupted one there.

    Parameters
    ----------
    folder : str
    settings : dict
        JSON-ready.
    resume : bool
        Go on where there is something to go on with.
    restart : bool
        Begin anew although there is.

    Returns
    -------
    Run

    Raises
    ------
    UsageError
        An interrupted run that neither option speaks of, or one with other settings.
    FeatureStoreError
        A state that cannot be read.
    """
    found = _read(folder)
    epochs = len(found.history()) if found else 0
    if resume and found and epochs:
        _require_same(found, settings)
        return found
    if found and epochs and not (found.finished or restart):
        raise UsageError(
            f"{folder} holds an interrupted run of {epochs} epochs",
            "Go on with it: --resume. Or forget it and begin anew: --restart.",
        )
    if resume:
        words.note(f"{folder}: no epoch was saved yet; the run begins anew")
    for path in (p for pattern in OURS for p in glob.glob(os.path.join(glob.escape(folder), pattern))):
        os.remove(path)
    run = Run(folder, settings)
    run.write()
    return run


def _read(folder: str) -> Run | None:
    path = os.path.join(folder, "state", "run.json")
    try:
        with open(path, "rb") as f:
            run = Run(folder, **json.load(f))
        run.history()
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise FeatureStoreError(f"{path}: the state cannot be read ({error})", "Begin anew: remove the file.") from None
    return run


def _require_same(found: Run, settings: dict[str, Any]) -> None:
    differ = [f"{k}: {found.settings.get(k)} then, {v} now" for k, v in settings.items() if found.settings.get(k) != v]
    if differ:
        raise UsageError(
            "the interrupted run was another one:\n  " + "\n  ".join(differ),
            "Give the same options and data, or begin anew with --restart.",
        )


def callbacks_of(
    run: Run, *, patience: int, curve: Callable[[Any], dict[str, float]], publish: Callable[[int], None]
) -> list[Any]:
    """The callbacks of one stage.

    Parameters
    ----------
    run : Run
    patience : int
        Epochs without a lower validation loss before the stage ends.
    curve : callable
        Model to loss, accuracy, val_loss and val_accuracy, in inference mode.
    publish : callable
        Called with the number of each epoch, from 1, that is the best so far; its weights are in `run.best_weights`.

    Returns
    -------
    list of keras.callbacks.Callback
        The curve is first: the others read what it adds to the logs.
    """
    of, best = keras().callbacks, run.best()
    monitor: dict[str, Any] = {"monitor": "val_loss", "mode": "min"}
    checkpoint = of.ModelCheckpoint(
        run.best_weights, save_best_only=True, save_weights_only=True, initial_value_threshold=best, **monitor
    )

    def after(epoch: int, logs: Any) -> None:
        better = logs["val_loss"] == checkpoint.best
        if better:
            publish(epoch + 1)
        _note(epoch + 1, logs, better)

    return [
        _curve(curve),
        checkpoint,
        of.LambdaCallback(on_epoch_end=after),
        of.EarlyStopping(patience=patience, baseline=best, **monitor),
        of.CSVLogger(run.path("history.csv"), append=True),
        of.TensorBoard(run.path("logs"), write_graph=False),
        of.BackupAndRestore(run.backup, double_checkpoint=True, delete_checkpoint=False),
    ]


def _curve(measure: Callable[[Any], dict[str, float]]) -> Any:
    """A callback that puts both curves, measured alike, into the logs of each epoch.

    Keras's own `loss` is the running mean of a network that still learns, with dropout and augmentation: no curve to
    compare the validation with. It becomes `augmented_loss`.
    """

    class Curve(keras().callbacks.Callback):  # type: ignore[misc, name-defined]
        started = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["augmented_loss"] = logs["loss"]
            logs |= measure(self.model)
            if not np.isfinite(list(logs.values())).all():
                raise FeatureStoreError(
                    f"training diverged in epoch {epoch + 1}: the loss is {logs['augmented_loss']}",
                    "Try a lower --learning-rate; the epochs before this one are kept.",
                )
            logs["learning_rate"] = float(keras().ops.convert_to_numpy(self.model.optimizer.learning_rate))
            logs["seconds"] = round(time.monotonic() - self.started, 3)

    return Curve()


def _note(epoch: int, logs: Any, better: bool) -> None:
    words.note(
        f"epoch {epoch:3d}  loss {logs['augmented_loss']:.3f}  training {logs['accuracy']:.3f}  "
        f"validation {logs['val_accuracy']:.3f} (loss {logs['val_loss']:.3f})  {logs['seconds']:.1f} s"
        + ("  best" if better else "")
    )
