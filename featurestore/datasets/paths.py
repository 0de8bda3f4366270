"""How a file's name is kept in the catalog, and how a name or a number becomes the identity of a track.

The catalog holds paths relative to the collection's audio folder, with `/` between the parts. File names are bytes and
not always UTF-8: a byte that is not part of a UTF-8 character is kept as `\\xHH`, and a backslash as `\\x5c`, so that
every name is text in the catalog and still leads back to its file. `audio_path` is the way back.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re

import pyarrow as pa
import pyarrow.compute as pc

AUDIO_SUFFIXES = frozenset(
    (
        *(".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".dts", ".flac", ".m4a", ".m4b"),
        *(".mka", ".mkv", ".mp2", ".mp3", ".mp4", ".mpc", ".mpga", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".spx"),
        *(".tta", ".voc", ".w64", ".wav", ".wave", ".webm", ".wma", ".wv"),
    )
)

# FMA's own ids stay below 2**20; 2**53 is the last integer that a float64 (JSON, pandas with NULLs) holds exactly
FIRST_HASHED_ID = 1 << 32
END_OF_IDS = 1 << 53
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
# as FMA names its clips: six digits, alone or in the folder that FMA keeps them in
_FMA_FILE = re.compile(r"(?:(?:.*/)?(\d{3})/(?=\1))?(\d{6})\.[A-Za-z]\w{1,4}", re.ASCII)


def is_url(root: str) -> bool:
    """Whether `root` is an fsspec URL (s3://bucket/music) and not a folder of this machine."""
    return "://" in root or "::" in root


def encode_name(path: str) -> str:
    """A path as Python's `os` functions give it (surrogates for stray bytes), as text for the catalog."""
    data = os.fsencode(path).replace(b"\\", b"\\x5c") if os.sep == "/" else path.replace(os.sep, "/").encode()
    return data.decode("utf-8", "backslashreplace")


def decode_name(stored: str) -> str:
    """The path that `encode_name` was given."""
    if "\\" not in stored:
        return stored
    return os.fsdecode(_ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), stored.encode()))


def audio_path(audio: str, stored: str) -> str:
    """Path or URL of a track's file, from the collection's audio folder and `tracks.path`."""
    if is_url(audio):
        return f"{audio.rstrip('/')}/{stored}"
    return os.path.join(audio, *decode_name(stored).split("/"))


def track_id(dataset: str, stored: str) -> int:
    """Identity of a track that has no number of its own: a hash of its data set and path, in [2**32, 2**53)."""
    return stable_id(f"{dataset}/{stored}")


def stable_id(text: str) -> int:
    """A number in [2**32, 2**53) that depends on nothing but `text`."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return FIRST_HASHED_ID + int.from_bytes(digest, "big") % (END_OF_IDS - FIRST_HASHED_ID)


def track_numbers(ids: pa.Array) -> pa.Array:
    """The ids of a table that are numbers.

    Parameters
    ----------
    ids : pyarrow.Array
        Ids as text.

    Returns
    -------
    pyarrow.Array
        int64; NULL where an id is not written in one to eighteen digits. A fraction of zeros counts for nothing:
        pandas writes whole numbers as `12.0` once a column has had an empty cell.

    Examples
    --------
    >>> track_numbers(pa.array(["000002", "12.0", "2.7", "02. Song", None])).to_pylist()
    [2, 12, None, None, None]
    """
    digits = pc.struct_field(pc.extract_regex(ids, r"^\s*(?P<n>[0-9]{1,18})(?:\.0+)?\s*$"), "n")
    return digits.cast(pa.int64())


def fma_number(name: str) -> int | None:
    """The track id in a file name as FMA writes it (`000/000002.mp3`, `000002.wav`), else None."""
    match = _FMA_FILE.fullmatch(name)
    return int(match[2]) if match else None


def bare_name(name: str) -> str:
    """A name without the suffix of an audio file; any other dot belongs to the name.

    Examples
    --------
    >>> bare_name("rock/blues.00000.au"), bare_name("Dr. Who 1")
    ('rock/blues.00000', 'Dr. Who 1')
    """
    root, suffix = posixpath.splitext(name)
    return root if suffix.lower() in AUDIO_SUFFIXES else name


def stem(stored: str) -> str:
    """File name without folder and last suffix."""
    return posixpath.splitext(posixpath.basename(stored))[0]
