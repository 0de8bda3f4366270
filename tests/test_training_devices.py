"""Devices: the CPU split in two, two workers on loopback, a TPU that is not there, GPUs that are not there."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.errors import UsageError
from featurestore.store.store import Store
from tests.conftest import ROOT
from training.run import devices
from training.shards.export import export

pytest_plugins = ("tests.training_cases",)
SECONDS = 240  # of the longest wait for a process


def _fit(home: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "training.fit", *options, "--store", str(home / "s"), "--epochs", "1", "--width", "4"]


def _require_quiet(text: str) -> None:
    assert "Traceback" not in text
    noise = [x for x in text.splitlines() if re.search(r"WARNING|INFO:|oneDNN|cuda|E0000|I0000", x)]
    assert not noise, noise


def test_two_virtual_devices_train_as_mirrors(home: Path, tmp_path: Path) -> None:
    """On uint8, which each device casts by itself."""
    export(Store.open(str(home / "s")), output=str(tmp_path / "tf"), dtype="uint8", shards=2)
    options = ["--data", str(tmp_path / "tf"), "--device", "cpu:2", "--mixup", "0", "--batch-size", "6"]
    command = _fit(home, "cnn", *options, "--output", str(tmp_path / "m"))
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert "CPU, 2 virtual devices; float32; batch 6 x 2" in done.stderr
    assert (tmp_path / "m/model.keras").is_file()
    _require_quiet(done.stderr)


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_two_workers_train_one_model(home: Path, tmp_path: Path) -> None:
    workers = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    running = []
    for index in range(2):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        command = _fit(home, "mlp", "--data", str(home / "tf"), "--output", str(tmp_path), "--format", "json")
        env = os.environ | {"TF_CONFIG": json.dumps(config)}
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=env))
    try:
        said = [worker.communicate(timeout=SECONDS) for worker in running]
    finally:
        for worker in running:
            worker.kill()
    for worker, (_, err) in zip(running, said, strict=True):
        assert worker.returncode == 0, err
        assert "device: 2 workers, 2 devices" in err
    losses = [re.findall(r"loss (\S+)", err) for _, err in said]
    assert losses[0] == losses[1]  # one model: both see the same curve
    assert {p.name for p in tmp_path.iterdir()} >= {"model.keras", "card.json", "history.csv", "worker-1"}
    assert not (tmp_path / "worker-1/model.keras").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": {}}', '{"cluster": {"worker": ["a:1"]}}'])
def test_a_cluster_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match=r"\$TF_CONFIG does not describe a cluster"):
        devices.choose()


def test_a_tpu_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--device tpu: no TPU answers"):
        devices.choose("tpu")
    monkeypatch.setenv("TPU_NAME", "local")  # a trace of one, and none there: the search goes on
    assert devices.choose().text == "CPU"


@pytest.mark.parametrize(
    ("capability", "policy"), [((9, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")]
)
def test_precision_by_what_a_gpu_can_do(capability: tuple[int, int], policy: str) -> None:
    assert devices.gpu_precision(capability) == policy
