"""Ctrl-C at the very start of a command, while it imports what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.errors import EXIT_INTERRUPTED
from tests.builds import ROOT

# stands in for a library that takes long to load, and is met by Ctrl-C there; what it raises would be an ImportError
LOADING = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
except BaseException as error:
    raise ImportError("cannot be loaded") from error
"""


def interrupted(module: str, library: str, folder: Path) -> tuple[int, str]:
    """Exit code and standard error of a module that gets Ctrl-C as it loads `library`."""
    (folder / f"{library}.py").write_text(LOADING)
    done = subprocess.run(
        [sys.executable, "-m", *module.split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("module", ["featurestore build", "warehouse", "analysis.compare", "training.fit mlp"])
@pytest.mark.parametrize("library", ["argparse", "pyarrow"])
def test_ctrl_c_while_a_command_loads_is_one_line(module: str, library: str, tmp_path: Path) -> None:
    code, err = interrupted(module, library, tmp_path)
    assert (code, err.strip()) == (EXIT_INTERRUPTED, "interrupted before anything was begun")


def test_who_ignores_ctrl_c_goes_on_ignoring_it(tmp_path: Path) -> None:
    """As a shell script starts what it puts in the background."""
    code = "import signal, sys; signal.signal(2, signal.SIG_IGN); sys.argv = ['-m']; import featurestore; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code} sys.exit(signal.getsignal(2) is not signal.SIG_IGN)"], cwd=ROOT, check=False
    )
    assert done.returncode == 0


def test_a_program_that_imports_the_package_keeps_its_ctrl_c() -> None:
    code = "import featurestore.cli, warehouse, analysis, training, signal, sys; "
    code += "sys.exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
