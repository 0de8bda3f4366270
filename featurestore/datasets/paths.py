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
    """Say whether a place is an fsspec URL and not a folder of this machine.

    Parameters
    ----------
    root : str
        Such as `s3://bucket/music`.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_url("s3://bucket/music"), is_url("/home/me/music")
    (True, False)
    """
    return "://" in root or "::" in root


def encode_name(path: str) -> str:
    r"""Write a file name as text for the catalog.

    Parameters
    ----------
    path : str
        As Python's `os` functions give it: surrogates stand for bytes that are not UTF-8.

    Returns
    -------
    str
        With `/` between the parts; `decode_name` is the way back.

    Examples
    --------
    >>> encode_name("a/caf\udce9.mp3")
    'a/caf\\xe9.mp3'
    """
    data = os.fsencode(path).replace(b"\\", b"\\x5c") if os.sep == "/" else path.replace(os.sep, "/").encode()
    return data.decode("utf-8", "backslashreplace")


def decode_name(stored: str) -> str:
    r"""Find the path that `encode_name` was given.

    Parameters
    ----------
    stored : str
        As the catalog keeps it.

    Returns
    -------
    str
        For Python's `os` functions.

    Examples
    --------
    >>> decode_name("a/caf\\xe9.mp3")
    'a/caf\udce9.mp3'
    """
    if "\\" not in stored:
        return stored
    return os.fsdecode(_ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), stored.encode()))


def audio_path(audio: str, stored: str) -> str:
    """Find a track's file.

    Parameters
    ----------
    audio : str
        Folder or URL of the collection.
    stored : str
        `tracks.path`.

    Returns
    -------
    str
        Path or URL.

    Examples
    --------
    >>> audio_path("s3://bucket/music/", "rock/a.mp3")
    's3://bucket/music/rock/a.mp3'
    """
    if is_url(audio):
        return f"{audio.rstrip('/')}/{stored}"
    return os.path.join(audio, *decode_name(stored).split("/"))


def track_id(dataset: str, stored: str) -> int:
    """Make the identity of a track that has no number of its own.

    Parameters
    ----------
    dataset : str
        Name of its data set.
    stored : str
        Its path in the catalog.

    Returns
    -------
    int
        A hash of both, in [2**32, 2**53).

    Examples
    --------
    >>> track_id("folders", "rock/a.mp3") == stable_id("folders/rock/a.mp3")
    True
    """
    return stable_id(f"{dataset}/{stored}")


def stable_id(text: str) -> int:
    """Make a number that depends on nothing but a text.

    Parameters
    ----------
    text : str
        Any.

    Returns
    -------
    int
        In [2**32, 2**53), above FMA's ids and exact as a float64.

    Examples
    --------
    >>> FIRST_HASHED_ID <= stable_id("artist/bach") < END_OF_IDS
    True
    """
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
    """Find the track id in a file name as FMA writes it.

    Parameters
    ----------
    name : str
        A file name, with or without folders.

    Returns
    -------
    int or None
        None for names of another form.

    Examples
    --------
    >>> fma_number("000/000002.mp3"), fma_number("000002.wav"), fma_number("2.wav")
    (2, 2, None)
    """
    match = _FMA_FILE.fullmatch(name)
    return int(match[2]) if match else None


def bare_name(name: str) -> str:
    """Take away the suffix of an audio file; any other dot belongs to the name.

    Parameters
    ----------
    name : str
        A file name, with or without folders.

    Returns
    -------
    str

    Examples
    --------
    >>> bare_name("rock/blues.00000.au"), bare_name("Dr. Who 1")
    ('rock/blues.00000', 'Dr. Who 1')
    """
    root, suffix = posixpath.splitext(name)
    return root if suffix.lower() in AUDIO_SUFFIXES else name


def stem(stored: str) -> str:
    """Take away the folders and the last suffix, whatever it is.

    Parameters
    ----------
    stored : str
        A path as the catalog keeps it.

    Returns
    -------
    str

    Examples
    --------
    >>> stem("rock/blues.00000.au")
    'blues.00000'
    """
    return posixpath.splitext(posixpath.basename(stored))[0]
