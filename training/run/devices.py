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
    """What trains. A global batch is `replicas` times the batch size; only the chief of several workers writes files.

    strategy is a tf.distribute strategy, None where Keras needs none. jit: whether XLA compiles the step.
    """

    text: str
    replicas: int
    precision: str
    strategy: Any
    jit: bool
    chief: bool = True

    def scope(self) -> Any:
        """The context in which a model is built and compiled."""
        return self.strategy.scope() if self.strategy is not None else contextlib.nullcontext()


def choose(device: str = "auto", precision: str = "auto") -> Device:
    """Find the device, or take the one named: auto, cpu, cpu:N (N virtual ones), gpu, gpu:I or tpu.

    auto takes a TPU, else the workers of $TF_CONFIG, else all GPUs, else the CPU. precision auto is bfloat16 on a TPU
    and on recent GPUs, float16 on older ones with tensor cores, float32 elsewhere. Raises UsageError for a device that
    is not there.
    """
    if not re.fullmatch(r"auto|tpu|cpu(:[1-9]\d*)?|gpu(:\d+)?", device):
        raise UsageError(f"unknown device {device!r}", "Expected auto, cpu, cpu:N, gpu, gpu:I or tpu.")
    backend = keras().backend.backend()
    found = _tensorflow_device(device) if backend == "tensorflow" else _other_device(device, backend)
    precision = found.precision if precision == "auto" else precision
    keras().config.set_dtype_policy(precision)
    return dataclasses.replace(found, precision=precision)


def _tensorflow_device(device: str) -> Device:
    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    if device == "tpu" or (device == "auto" and _maybe_tpu()):
        strategy = _tpu_strategy(required=device == "tpu")
        if strategy is not None:
            n = strategy.num_replicas_in_sync
            return Device(f"TPU, {n} cores", n, "mixed_bfloat16", strategy, True)
    if device == "auto" and os.environ.get("TF_CONFIG"):
        return _worker(tf, gpus)
    if device.startswith("gpu") or (device == "auto" and gpus):
        return _gpus(tf, gpus, device)
    count = int(device.partition(":")[2] or 1)
    if device != "auto":
        with contextlib.suppress(RuntimeError):  # already in use, by an earlier run in this process
            tf.config.set_visible_devices([], "GPU")
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
    name = details[0].get("device_name", "GPU")
    precision = _gpu_precision(min(d.get("compute_capability", (0, 0)) for d in details))
    if len(chosen) == 1:
        return Device(f"one GPU ({name})", 1, precision, None, True)
    return Device(
        f"{len(chosen)} GPUs ({name}), mirrored", len(chosen), precision, tf.distribute.MirroredStrategy(), True
    )


def _gpu_precision(capability: tuple[int, int]) -> str:
    """bfloat16 from Ampere on, float16 with the first tensor cores, float32 before."""
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def _worker(tf: Any, gpus: list[Any]) -> Device:
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        task = config.get("task", {})
        workers = len(config["cluster"]["worker"])
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"$TF_CONFIG does not describe a cluster ({error})", 'Expected {"cluster": {"worker": [...]}, "task": ...}.'
        ) from None
    chief = task.get("type") == "chief" or (task.get("type") == "worker" and task.get("index") == 0)
    n = strategy.num_replicas_in_sync
    text = f"{workers} workers, {n} devices"
    return Device(text, n, "mixed_bfloat16" if gpus else "float32", strategy, bool(gpus), chief)


def _maybe_tpu() -> bool:
    # asking for a TPU where there is none takes half a minute: look for its traces first
    return any(os.environ.get(v) for v in TPU_HINTS) or bool(glob.glob("/dev/accel*"))


def _tpu_strategy(required: bool) -> Any:
    tf = tensorflow()
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError, OSError) as error:
        if required:
            raise UsageError(f"--device tpu: no TPU answers ({str(error).splitlines()[0]})") from None
        return None


def _other_device(device: str, backend: str) -> Device:
    """JAX and PyTorch place the model themselves; JAX spreads batches over all its devices."""
    if backend != "jax":
        return Device(f"as {backend} chooses", 1, "float32", None, False)
    import jax

    devices = jax.devices()
    kind = devices[0].platform
    if device != "auto" and not device.startswith(kind):
        raise UsageError(f"--device {device}: JAX runs on {kind} here", f"Set JAX_PLATFORMS={device.split(':')[0]}.")
    if len(devices) > 1:
        keras().distribution.set_distribution(keras().distribution.DataParallel(devices=None))
    precision = "float32" if kind == "cpu" else "mixed_bfloat16"
    text = f"{len(devices)} {kind.upper()} ({devices[0].device_kind}), JAX"
    return Device(text, len(devices), precision, None, True)
