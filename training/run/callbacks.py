"""What a training run keeps: its history, its best weights, and all that is needed to go on after a kill.

The state is one .npz file, replaced atomically: weights, optimizer, random-number states, best weights, history. It
says which run it belongs to; another run refuses it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from featurestore.errors import FeatureStoreError, MissingInput, UsageError
from featurestore.store import files
from featurestore.terminal import words
from training.backend import keras, tensorflow
from training.shards import records

STATE = "state.npz"
LOG = "logs/events.out.tfevents.fit"  # TensorBoard looks for "tfevents" in a name
SECONDS_BETWEEN_STATES = 15.0  # epochs shorter than that are repeated after a kill, bit by bit
Score = Callable[[], tuple[float, float]]


@dataclasses.dataclass
class State:
    """Where a run stands.

    epoch counts the finished epochs of all stages, stage_first those before this stage, waited those since the best
    one. best holds the weights of the best epoch, variables a `snapshot` of the last one.
    """

    run: dict[str, Any]
    epoch: int = 0
    stage: int = 0
    waited: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    stage_first: int = 0
    stage_done: bool = False
    best: list[np.ndarray] = dataclasses.field(default_factory=list)
    variables: list[np.ndarray] = dataclasses.field(default_factory=list)

    def write(self, folder: str) -> None:
        """Replace the state file."""
        arrays = {f"{name} {i}": a for name in ("best", "variables") for i, a in enumerate(getattr(self, name))}
        facts = {k: v for k, v in vars(self).items() if k not in ("best", "variables")}
        sink = io.BytesIO()
        np.savez(sink, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
        path = os.path.abspath(os.path.join(folder, STATE))
        files.write_bytes(files.resolve(path)[0], path, sink.getbuffer())

    @classmethod
    def fresh(cls, folder: str, run: dict[str, Any]) -> State:
        """The start of a run; the state and the log of an earlier one in `folder` are removed."""
        for name in (STATE, LOG):
            path = os.path.abspath(os.path.join(folder, name))
            files.remove(files.resolve(path)[0], path)
        return cls(run)

    @classmethod
    def read(cls, folder: str, run: dict[str, Any]) -> State:
        """The state of an interrupted run. Raises MissingInput, or UsageError naming what differs from `run`."""
        path = os.path.join(folder, STATE)
        try:
            with np.load(path, allow_pickle=False) as data:
                facts = json.loads(data["facts"].tobytes())
                lists: dict[str, Any] = {name: _numbered(data, name) for name in ("best", "variables")}
        except FileNotFoundError:
            raise MissingInput(f"{path}: no interrupted run to go on with", "Run again without --resume.") from None
        except (ValueError, KeyError, OSError) as error:
            raise FeatureStoreError(f"{path}: cannot be read ({error})", "Run again without --resume.") from None
        state = cls(**facts, **lists)
        found = [f"{k}: {state.run.get(k)} then, {v} now" for k, v in run.items() if state.run.get(k) != v]
        if found:
            raise UsageError(
                "the interrupted run was another one:\n  " + "\n  ".join(found),
                "Give the same options and data, or run again without --resume.",
            )
        return state


def _numbered(data: Any, name: str) -> list[np.ndarray]:
    return [data[f"{name} {i}"] for i in range(sum(key.startswith(f"{name} ") for key in data.files))]


def snapshot(model: Any) -> list[np.ndarray]:
    """All that training changes: weights, states of the random-number generators, optimizer."""
    to_numpy = keras().ops.convert_to_numpy
    # a copy: the variable changes with the next step
    return [np.array(to_numpy(v)) for v in (*_model_variables(model), *model.optimizer.variables)]


def restore(model: Any, values: list[np.ndarray]) -> None:
    """Put a `snapshot` back into a compiled model of the same run."""
    model.optimizer.build(model.trainable_variables)
    variables = [*_model_variables(model), *model.optimizer.variables]
    if len(variables) != len(values):
        raise FeatureStoreError(
            f"the saved state has {len(values)} variables, the network {len(variables)}",
            "It was saved by another version of this toolkit; run again without --resume.",
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _model_variables(model: Any) -> list[Any]:
    metrics = {id(v) for m in model.metrics for v in m.variables}
    return [v for v in model.variables if id(v) not in metrics]


def make_keeper(
    state: State,
    *,
    folder: str | None,
    patience: int,
    last_epoch: int,
    train_score: Score,
    validation_score: Score,
) -> Any:
    """A Keras callback that scores, judges, records and saves after each epoch, and stops a run that learns no more.

    The scores are (cross-entropy, accuracy) in inference mode and without augmentation, so that training and
    validation can be compared. folder None (a worker that is not the chief) writes nothing.
    """

    class Keeper(keras().callbacks.Callback):  # type: ignore[misc, name-defined]
        saved_at = 0.0
        started = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            loss = float((logs or {}).get("loss", float("nan")))
            row = _row(epoch, loss, train_score(), validation_score(), self.model, time.monotonic() - self.started)
            _judge(state, row, self.model)
            state.stage_done = state.waited >= patience or epoch + 1 >= last_epoch
            self.model.stop_training = state.stage_done
            if folder is not None:
                _log(folder, row)
                if state.stage_done or time.monotonic() - self.saved_at >= SECONDS_BETWEEN_STATES:
                    state.variables = snapshot(self.model)
                    state.write(folder)
                    self.saved_at = time.monotonic()

    return Keeper()


def _row(
    epoch: int, loss: float, train: tuple[float, float], validation: tuple[float, float], model: Any, seconds: float
) -> dict[str, float]:
    if not np.isfinite([loss, train[0], validation[0]]).all():
        raise FeatureStoreError(
            f"training diverged in epoch {epoch + 1}: the loss is {loss}",
            "Try a lower --learning-rate; the state before this epoch is kept.",
        )
    return {
        "epoch": epoch + 1,
        "loss": loss,
        "training_loss": train[0],
        "training_accuracy": train[1],
        "validation_loss": validation[0],
        "validation_accuracy": validation[1],
        "learning_rate": float(keras().ops.convert_to_numpy(model.optimizer.learning_rate)),
        "seconds": round(seconds, 3),
    }


def _judge(state: State, row: dict[str, float], model: Any) -> None:
    state.epoch = int(row["epoch"])
    state.history.append(row)
    state.waited += 1
    better = row["validation_loss"] < state.best_loss
    if better:
        state.best_loss, state.best_epoch, state.waited = row["validation_loss"], state.epoch, 0
        state.best = [np.array(w) for w in model.get_weights()]
    words.note(
        f"epoch {state.epoch:3d}  loss {row['loss']:.3f}  training {row['training_accuracy']:.3f}  "
        f"validation {row['validation_accuracy']:.3f} (loss {row['validation_loss']:.3f})  {row['seconds']:.1f} s"
        + ("  best" if better else "")
    )


def _log(folder: str, row: dict[str, float]) -> None:
    """Append an epoch to the TensorBoard log: a TFRecord file of Event messages."""
    v1 = tensorflow().compat.v1
    values = [v1.Summary.Value(tag=k, simple_value=v) for k, v in row.items() if k != "epoch"]
    event = v1.Event(wall_time=time.time(), step=int(row["epoch"]), summary=v1.Summary(value=values))
    path = os.path.join(folder, LOG)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab") as f:
        if not f.tell():
            f.write(records.frame(v1.Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()))
        f.write(records.frame(event.SerializeToString()))
