"""Warnings that C libraries write to the process's standard error, past Python and its `warnings`.

mpg123, inside libsndfile, comments on every odd MP3 header; what matters about a file is in the exception it raises or
in the samples it gives.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

STDERR = 2
_guard = threading.Lock()
_inside = 0
_saved: int | None = None


@contextlib.contextmanager
def libraries() -> Iterator[None]:
    """Drop what is written to standard error within the block; exceptions pass.

    Threads may be inside together. What other threads print meanwhile is dropped too, so keep the block to the call of
    the library.

    Yields
    ------
    None
    """
    global _inside, _saved
    with _guard:
        if not _inside:
            _saved = _redirect()
        _inside += 1
    try:
        yield
    finally:
        with _guard:
            _inside -= 1
            if not _inside and _saved is not None:
                os.dup2(_saved, STDERR)
                os.close(_saved)


def _redirect() -> int | None:
    """Point standard error at nothing; returns a copy of what it was, None where the process has none."""
    try:
        saved = os.dup(STDERR)
    except OSError:
        return None
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, STDERR)
    os.close(nothing)
    return saved
