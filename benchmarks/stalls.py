"""Does the data pipeline keep the device waiting? Training steps on real shards against the same batch from memory.

Three streams feed the same compiled step, in turn: one batch held in memory, the shards as `fit` reads them (windows,
masks, mixup), and the shards without the cache in RAM. The stall is the share of a step's time that the batch from
memory does not need. Where there is no accelerator the CPU's cores do both jobs, and the figure says little.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import common
from featurestore.spec import Spec
from tests.factories import make_store
from training.backend import keras
from training.feed import pipeline
from training.feed.augment import Augment
from training.networks import catalogue
from training.run import devices
from training.shards.check import DataSet, open_data
from training.shards.export import export

WARM_UP = 3


def stream(data: DataSet, settings: catalogue.Settings, batch: int, window: int | None, cache: bool) -> Any:
    """The training stream of `fit`, endless for our purpose."""
    return pipeline.load(
        data,
        "training",
        batch_size=batch,
        window=window,
        training=True,
        epochs=(0, 100_000),
        augment=Augment(masks=settings.masks, mixup=settings.mixup),
        cache=cache,
    )


def timed_steps(model: Any, batches: Any, steps: int) -> float:
    """Seconds of `steps` steps of `model.fit` on the stream, after WARM_UP steps that fill buffers and compile."""

    class Clock(keras().callbacks.Callback):  # type: ignore[misc, name-defined]
        started = finished = 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == WARM_UP - 1:
                float(logs["loss"])  # waits for the device
                self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.finished = time.perf_counter()  # the logs are numbers by now: the device is done

    clock = Clock()
    model.fit(batches, steps_per_epoch=WARM_UP + steps, epochs=1, callbacks=[clock], shuffle=False, verbose=0)
    return clock.finished - clock.started


def waiting(batches: Any, steps: int, step_seconds: float) -> float:
    """Share of `steps` device-paced steps that the next batch was not there in time.

    The pipeline runs beside a sleep of one step's length: what `next` takes beyond that is a stall, whatever else
    the trainer does.
    """
    iterator = iter(batches)
    for _ in range(WARM_UP):
        next(iterator)
    waited = 0.0
    for _ in range(steps):
        time.sleep(step_seconds)
        started = time.perf_counter()
        next(iterator)
        waited += time.perf_counter() - started
    return waited / (waited + steps * step_seconds)


def main() -> int:
    """Make shards, train on each stream, print steps per second and stalls."""
    parser = common.parser("stalls", __doc__)
    parser.add_argument("--records", type=int, default=1000, help="excerpts of 30 s in the shards")
    parser.add_argument("--steps", type=int, default=0, help="steps of a round; 0: 100 on an accelerator, 8 on a CPU")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are shown")
    parser.add_argument("--batch-size", type=int, default=64, help="examples of a step")
    parser.add_argument("--width", type=int, default=24, help="channels of the cnn's first stage")
    parser.add_argument("--device", default="auto", help="as in training.fit")
    args = parser.parse_args()
    device = devices.choose(args.device)
    steps = args.steps or (100 if device.jit else 8)
    settings = catalogue.settings_for("cnn", width=args.width)
    with tempfile.TemporaryDirectory() as name:
        store = make_store(str(Path(name) / "store"), tracks=args.records, spec=Spec(groups=("fma",)), batch_tracks=64)
        data = open_data(export(store, output=name).folder)
        rows = measure(data, settings, args.batch_size * device.replicas, steps, args.repeats, device)
    facts = {"device": device.text, "precision": device.precision, "batch": args.batch_size * device.replicas}
    common.report(args.format, {"Steps of fit cnn": rows}, **facts, records=args.records, cores=os.cpu_count())
    return 0


def measure(
    data: DataSet, settings: catalogue.Settings, batch: int, steps: int, repeats: int, device: devices.Device
) -> list[dict[str, Any]]:
    """One row per stream: steps per second, examples per second, stall (share of the step's time)."""
    window = catalogue.window_of("cnn", data.sidecar)
    shape = catalogue.input_shape(data.sidecar, window)
    with device.scope():
        model = catalogue.build(settings, shape, len(data.sidecar.classes), data.sidecar.normalisation)
        model.compile("adamw", keras().losses.CategoricalCrossentropy(), jit_compile=device.jit)
    streams = {
        "a batch from memory": stream(data, settings, batch, window, True).take(1).cache().repeat(),
        "shards, cached in RAM": stream(data, settings, batch, window, True),
        "shards, read each time": stream(data, settings, batch, window, False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in streams}
    for _ in range(repeats):
        for name, batches in streams.items():
            seconds[name].append(timed_steps(model, batches, steps))
    times = {name: statistics.median(t) for name, t in seconds.items()}
    base = times["a batch from memory"]
    return [
        {
            "stream": name,
            "steps per s": round(steps / t, 2),
            "examples per s": round(batch * steps / t),
            "stall": round(max(0.0, 1 - base / t), 3),
            "waiting beside an idle device": round(waiting(streams[name], steps, base / steps), 3),
        }
        for name, t in times.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
