"""TensorFlow and Keras, imported when first needed and without their start-up chatter."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from featurestore.errors import MissingInput


@functools.lru_cache(maxsize=1)
def tensorflow() -> Any:
    """Import TensorFlow, once and quietly.

    Returns
    -------
    module

    Raises
    ------
    MissingInput
        Where it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _silent_stderr():
            import tensorflow as tf
    except ImportError as error:
        raise MissingInput(
            f"TensorFlow cannot be imported ({error})", "Install it: pip install 'music-feature-store[training]'."
        ) from None
    tf.get_logger().setLevel("ERROR")
    return tf


@functools.lru_cache(maxsize=1)
def keras() -> Any:
    """Import Keras on TensorFlow, whatever $KERAS_BACKEND says.

    Returns
    -------
    module

    Raises
    ------
    MissingInput
        Where TensorFlow is not installed.
    """
    tensorflow()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _silent_stderr():
        import keras as module
    return module


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hold back what C++ code prints while a library loads; print it after all if that fails."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
