"""How a file's name is kept in the catalog, and how it becomes an identity.

The catalog holds paths relative to the collection's audio folder, with `/` between the parts. File names are bytes and
not always UTF-8: a byte that is not part of a UTF-8 character is kept as `\\xHH`, and a backslash as `\\x5c`, so that
every name is text in the catalog and still leads back to its file. `audio_path` is the way back.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re

# FMA's own ids stay below 2**20; 2**53 is the last integer that a float64 (JSON, pandas with NULLs) holds exactly
FIRST_HASHED_ID = 1 << 32
END_OF_IDS = 1 << 53
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


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


def stem(stored: str) -> str:
    """File name without folder and last suffix."""
    return posixpath.splitext(posixpath.basename(stored))[0]
