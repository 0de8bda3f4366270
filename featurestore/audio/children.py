"""Processes that end with the process that started them, also where that one is killed."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # opened here: between fork and exec nothing may be loaded


def end_with(parent: int) -> None:
    """Have the system kill this process as soon as its parent is gone.

    Parameters
    ----------
    parent : int
        Process number of the parent. If that one is gone already, this process ends at once.
    """
    if hasattr(_LIBC, "prctl"):  # Linux
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
