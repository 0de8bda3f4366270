"""libsndfile, its MP3 (mpg123) included: exact to the sample at any start."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from featurestore.audio import quiet

BLOCK_SAMPLES = 1 << 22  # 16 MB


class LibsndfileReader:
    """Samples of an open soundfile.SoundFile: see `decode.Reader`.

    The frames of an MP3 borrow bits from those before, so what follows a seek is wrong for up to some tenths of a
    second (variable bit rate) and is read a second ahead. soundfile itself seeks after every read: each block of an
    MP3 starts anew.

    Parameters
    ----------
    file : soundfile.SoundFile
        Open for reading.
    block_samples : int
        Samples of a block, over all channels.
    """

    name = "libsndfile"

    def __init__(self, file: Any, block_samples: int = BLOCK_SAMPLES) -> None:
        import soundfile

        self.version = soundfile.__libsndfile_version__.removeprefix("libsndfile-")
        self._file, self._block_samples = file, block_samples
        self.rate, self.channels = int(file.samplerate), int(file.channels)
        self.frames = int(file.frames)
        self._lead = self.rate if file.format == "MP3" else 0

    def blocks(self, start: int, count: int | None) -> Iterator[np.ndarray]:
        """Yield the samples block by block: see `decode.Reader`.

        Parameters
        ----------
        start : int
            First frame, from 0.
        count : int or None
            How many frames; None for all that follow.

        Yields
        ------
        np.ndarray
            float32 (n, channels), full scale 1.0.

        Raises
        ------
        soundfile.LibsndfileError
            libsndfile stops in the middle of the file.
        """
        position, end = start, self.frames if count is None else min(start + count, self.frames)
        block = max(1, self._block_samples // self.channels)
        while position < end:
            lead, wanted = min(position, self._lead), min(end - position, block)
            with quiet.libraries():
                self._file.seek(position - lead)
                data = self._file.read(lead + wanted, dtype="float32", always_2d=True)[lead:]
            if len(data):
                yield data
            if len(data) < wanted:
                return
            position += wanted


@contextlib.contextmanager
def opened(source: str | os.PathLike[str] | BinaryIO, block_samples: int = BLOCK_SAMPLES) -> Iterator[LibsndfileReader]:
    """Open a file with libsndfile, and close it with the block.

    Parameters
    ----------
    source : str, os.PathLike or binary file object
        A path of this machine, or a seekable file.
    block_samples : int
        Samples of a block, over all channels.

    Yields
    ------
    LibsndfileReader

    Raises
    ------
    soundfile.LibsndfileError
        libsndfile does not read it.
    """
    import soundfile

    # soundfile would encode a path strictly, and refuse names that are not UTF-8
    place = os.fsencode(source) if isinstance(source, str | os.PathLike) else source
    try:
        with quiet.libraries():
            file = soundfile.SoundFile(place)
    except TypeError as error:  # soundfile takes a name that ends in .raw for samples without a header
        raise soundfile.LibsndfileError(1, str(error)) from None
    with file:
        yield LibsndfileReader(file, block_samples)
