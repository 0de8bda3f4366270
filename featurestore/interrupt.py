"""Ctrl-C while a command is still loading: one line and an exit code, where Python would print a traceback.

A command takes up to a second to import what it needs, and nothing has been begun by then.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from featurestore.errors import EXIT_INTERRUPTED


def expect() -> None:
    """From here until `over`, Ctrl-C ends the process at once. A handler of somebody else's stays."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def over() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    # an exception would be caught, or turned into an ImportError, by whatever is being imported
    print("\ninterrupted before anything was begun", file=sys.stderr, flush=True)
    os._exit(EXIT_INTERRUPTED)
