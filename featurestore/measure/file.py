"""One audio file: its bytes on this machine, their hash, its excerpts and what they measure."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import tempfile
from collections.abc import Iterator

from featurestore import extract
from featurestore.audio import decode
from featurestore.errors import AudioError, FeatureStoreError, of_system
from featurestore.spec import Spec
from featurestore.store import files

Measured = list[tuple[decode.Excerpt, extract.Extraction]]


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer, whatever it waits for. For worker processes only.

    The kernel sends SIGALRM, which nobody handles, so a decoder that never returns to Python ends as well.

    Parameters
    ----------
    seconds : float
        How long the block may take.

    Yields
    ------
    None
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def local_copy(source: str, label: str) -> Iterator[str]:
    """A path of this machine with the file's bytes: the file itself, or a temporary copy of a remote one.

    Parameters
    ----------
    source : str
        Path or fsspec URL.
    label : str
        What messages call the file.

    Yields
    ------
    str
        A temporary copy is gone after the block.

    Raises
    ------
    AudioError
        missing or unreadable, where a remote file cannot be copied.
    """
    fs, path = files.resolve(source) if "://" in source else (None, source)
    if fs is None or files.is_local(fs):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="audio-", suffix=os.path.splitext(path)[1]) as copy:
        try:
            fs.get_file(path, copy.name)
        except FileNotFoundError:
            raise AudioError("open", "missing", f"{label}: no such file") from None
        except Exception as error:
            if of_system(error) is None:
                raise
            raise AudioError("open", "unreadable", f"{label}: {error}") from None
        yield copy.name


def identify(path: str, label: str) -> tuple[str, os.stat_result]:
    """The hash of a file's content, and the file's size and times as they were when it was read.

    Parameters
    ----------
    path : str
        A path of this machine.
    label : str
        What messages call the file.

    Returns
    -------
    tuple of (str, os.stat_result)
        BLAKE2b of 16 bytes in hexadecimal digits; what the system says of the open file.

    Raises
    ------
    AudioError
        missing, or unreadable: see `decode.open_audio`.
    """
    with decode.open_audio(path, label) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        return digest.hexdigest(), os.fstat(file.fileno())


def decode_and_extract(path: str, spec: Spec) -> Measured:
    """Decode a file and measure its excerpts.

    Parameters
    ----------
    path : str
        A path of this machine.
    spec : Spec
        Which excerpts, and how they are measured.

    Returns
    -------
    list of (Excerpt, Extraction)
        In the order of the file.

    Raises
    ------
    AudioError
        Whatever goes wrong with the file: one file must not stop the others.
    """
    stage = "decode"
    try:
        excerpts = decode.decode(path, spec)
        stage = "extract"
        return [(e, extract.extract(e.y, spec)) for e in excerpts]
    except MemoryError:
        raise AudioError(stage, "memory", f"{path}: out of memory") from None
    except (AudioError, FeatureStoreError):
        raise
    except Exception as error:
        raise AudioError(stage, "crash", f"{path}: {type(error).__name__}: {error}") from error


def measure_file(source: str, spec: Spec) -> tuple[str, Measured]:
    """Measure one file, without a time limit.

    Parameters
    ----------
    source : str
        Path or fsspec URL.
    spec : Spec
        Which excerpts, and how they are measured.

    Returns
    -------
    tuple of (str, list of (Excerpt, Extraction))
        The hash of the content (see `identify`), and the excerpts with what they measure.

    Raises
    ------
    AudioError
        The file cannot be read or measured.
    """
    with local_copy(source, source) as path:
        return identify(path, source)[0], decode_and_extract(path, spec)
