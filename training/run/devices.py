"""Which device trains, found or forced, and how numbers are kept on it."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import re
from typing import Any

from featurestore.errors import UsageError
from training.backend import keras, tensorflow

TPU_HINTS = ("TPU_NAME", "COLAB_TPU_ADDR", "TPU_WORKER_ID", "TPU_ACCELERATOR_TYPE")


@dataclasses.dataclass(frozen=True)
class Device:
    """What trains.

    Parameters
    ----------
    text : str
        For people.
    replicas : int
        Copies of the model; a global batch is so many times the batch size.
    precision : str
        Keras's dtype policy.
    strategy : tf.distribute.Strategy or None
        None where Keras needs none.
    jit : bool
        Whether XLA compiles the step.
    worker : int
        Number of this process among several workers; only worker 0 writes the model and its report.
    """

    text: str
    replicas: int
    precision: str
    strategy: Any
    jit: bool
    worker: int = 0

    def scope(self) -> Any:
        """Enter the strategy, so that variables are made on its devices.

        Returns
        -------
        context manager
            In which a model is built and compiled.
        """
        return self.strategy.scope() if self.strategy is not None else contextlib.nullcontext()


def choose(device: str = "auto", precision: str = "auto") -> Device:
    """Find the device, or take the one named, and set Keras's dtype policy.

    Parameters
    ----------
    device : str
        auto, cpu, cpu:N (N virtual ones), gpu, gpu:I or tpu. auto takes a TPU, else the workers of $TF_CONFIG, else all
        GPUs, else the CPU.
    precision : str
        A dtype policy; auto is bfloat16 on a TPU and on recent GPUs, float16 on older ones with tensor cores, float32
        elsewhere.

    Returns
    -------
    Device

    Raises
    ------
    UsageError
        For a device that is not there.
    """
    if not re.fullmatch(r"auto|tpu|cpu(:[1-9]\d*)?|gpu(:\d+)?", device):
        raise UsageError(f"unknown device {device!r}", "Expected auto, cpu, cpu:N, gpu, gpu:I or tpu.")
    found = _find(tensorflow(), device)
    precision = found.precision if precision == "auto" else precision
    keras().config.set_dtype_policy(precision)
    return dataclasses.replace(found, precision=precision)


def _find(tf: Any, device: str) -> Device:
    if device == "tpu" or (device == "auto" and _maybe_tpu()):
        strategy = _tpu_strategy(tf, required=device == "tpu")
        if strategy is not None:
            n = strategy.num_replicas_in_sync
            return Device(f"TPU, {n} cores", n, "mixed_bfloat16", strategy, True)
    gpus = tf.config.list_physical_devices("GPU")
    if device == "auto" and os.environ.get("TF_CONFIG"):
        return _worker(tf, os.environ["TF_CONFIG"], bool(gpus))
    if device.startswith("gpu") or (device == "auto" and gpus):
        return _gpus(tf, gpus, device)
    if device != "auto":
        with contextlib.suppress(RuntimeError):  # already in use, by an earlier run in this process
            tf.config.set_visible_devices([], "GPU")
    count = int(device.partition(":")[2] or 1)
    if count == 1:
        return Device("CPU", 1, "float32", None, False)
    return Device(f"CPU, {count} virtual devices", count, "float32", _virtual_cpus(tf, count), False)


def _virtual_cpus(tf: Any, count: int) -> Any:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise UsageError(
                f"TensorFlow already runs with fewer than {count} devices", "Start a new process."
            ) from None
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])


def _gpus(tf: Any, gpus: list[Any], device: str) -> Device:
    index = device.partition(":")[2]
    if not gpus or (index and int(index) >= len(gpus)):
        raise UsageError(
            f"--device {device}: TensorFlow sees {len(gpus)} GPUs here",
            "Leave --device out, or install the CUDA build: pip install 'music-feature-store[gpu]'.",
        )
    chosen = [gpus[int(index)]] if index else gpus
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices(chosen, "GPU")
        for gpu in chosen:
            tf.config.experimental.set_memory_growth(gpu, True)
    details = [tf.config.experimental.get_device_details(g) for g in chosen]
    name, n = details[0].get("device_name", "GPU"), len(chosen)
    precision = gpu_precision(min(d.get("compute_capability", (0, 0)) for d in details))
    if n == 1:
        return Device(f"one GPU ({name})", 1, precision, None, True)
    return Device(f"{n} GPUs ({name}), mirrored", n, precision, tf.distribute.MirroredStrategy(), True)


def gpu_precision(capability: tuple[int, int]) -> str:
    """Choose the dtype policy of a GPU.

    Parameters
    ----------
    capability : (int, int)
        Its CUDA compute capability.

    Returns
    -------
    str
        mixed_bfloat16 from Ampere (8.0) on, mixed_float16 from Volta (7.0) on, else float32.

    Examples
    --------
    >>> gpu_precision((7, 5))
    'mixed_float16'
    """
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def _worker(tf: Any, text: str, gpu: bool) -> Device:
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        chiefs = len(cluster.get("chief", ()))
        index = int(task["index"]) + (chiefs if task["type"] == "worker" else 0)
        n_workers = chiefs + len(cluster["worker"])
        strategy = _workers(tf)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"$TF_CONFIG does not describe a cluster ({error})", 'Expected {"cluster": {"worker": [...]}, "task": ...}.'
        ) from None
    n = strategy.num_replicas_in_sync
    precision = "mixed_bfloat16" if gpu else "float32"
    return Device(f"{n_workers} workers, {n} devices", n, precision, strategy, gpu, index)


def _workers(tf: Any) -> Any:
    """A MultiWorkerMirroredStrategy that Keras 3 can train with (keras-team/keras, issue 20585)."""

    class Workers(tf.distribute.MultiWorkerMirroredStrategy):  # type: ignore[misc, name-defined]
        def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
            if isinstance(value, tuple):  # a whole batch, of which Keras wants to know the shapes
                return tf.nest.map_structure(lambda v: self.experimental_local_results(v)[0], value)
            numbers = all(v.shape.rank == 0 for v in self.experimental_local_results(value))
            return super().reduce(reduce_op, value, None if numbers else axis)

    return Workers()


def _maybe_tpu() -> bool:
    # asking for a TPU where there is none takes half a minute: look for its traces first
    return any(os.environ.get(v) for v in TPU_HINTS) or bool(glob.glob("/dev/accel*"))


def _tpu_strategy(tf: Any, required: bool) -> Any:
    try:
        return tf.distribute.TPUStrategy(tf.distribute.cluster_resolver.TPUClusterResolver.connect())
    except (ValueError, tf.errors.OpError, OSError) as error:
        if required:
            raise UsageError(f"--device tpu: no TPU answers ({str(error).splitlines()[0]})") from None
        return None
