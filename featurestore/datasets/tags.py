"""`tags`: anyone's music, labelled by the tags in its own files (ID3, Vorbis comments, MP4, APE, WMA, RIFF, AIFF).

A file without a genre is kept with genre NULL, one whose tags cannot be read with no labels at all: decoding will tell
whether it is music.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import Any, BinaryIO

from featurestore.datasets import paths
from featurestore.datasets.artists import normalise
from featurestore.datasets.collection import Collection, from_labels
from featurestore.datasets.scan import scan
from featurestore.store import files
from featurestore.terminal.progress import bar as progress
from featurestore.terminal.words import examples

# what each kind of tag calls it: ID3 (any version is read as 2.4), MP4, Vorbis, APE, Windows Media; case is ignored
NAMES = {
    "title": ("TIT2", "\xa9nam", "title"),
    "artist": ("TPE1", "\xa9ART", "artist", "author"),
    "albumartist": ("TPE2", "aART", "albumartist", "album artist", "WM/AlbumArtist"),
    "album": ("TALB", "\xa9alb", "album", "WM/AlbumTitle"),
    "genre": ("TCON", "\xa9gen", "genre", "WM/Genre"),
    "year": ("TDRC", "\xa9day", "date", "year", "WM/Year"),
    "track": ("TRCK", "trkn", "tracknumber", "track", "WM/TrackNumber"),
    "disc": ("TPOS", "disk", "discnumber", "disc", "WM/PartOfSet"),
    "composer": ("TCOM", "\xa9wrt", "composer", "WM/Composer"),
    "comment": ("COMM", "\xa9cmt", "comment", "description"),
}
_CHUNKED = (".wav", ".wave", ".aif", ".aiff", ".aifc")  # may have texts in chunks of their own, which are no tags
_YEAR = re.compile(r"\b(1[5-9]\d\d|20\d\d)\b")
_SEPARATOR = re.compile(r"[;\x00]|\s/\s")


def load(audio: str) -> Collection:
    """Catalog audio files, labelled by the tags in them.

    Parameters
    ----------
    audio : str
        Folder or URL.

    Returns
    -------
    Collection
        Named tags. Files without a genre, or with tags that cannot be read, are kept and counted in the warnings.

    Raises
    ------
    MissingInput
        There is no such folder, or no audio file in it.
    """
    found = scan(audio)
    labels, unread = list[dict[str, Any]](), list[str]()
    with progress("reading tags", len(found.paths)) as bar:
        for path in found.paths:
            tags = read_tags(audio, path)
            if tags is None:
                unread.append(path)
            labels.append({"path": path, **labels_of(tags or {}, path)})
            bar.advance()
    warnings = list(found.warnings)
    if unread:
        warnings.append(f"files whose tags cannot be read, kept without labels: {examples(unread)}")
    bare = [label["path"] for label in labels if not label["genres"]]
    if bare:
        warnings.append(f"files without a genre, kept with genre NULL: {examples(bare)}")
    return from_labels("tags", labels, audio=audio, warnings=tuple(warnings))


def read_tags(audio: str, path: str) -> dict[str, list[str]] | None:
    """The tags of one file.

    Parameters
    ----------
    audio : str
        Folder or URL of the collection.
    path : str
        The file in it, as the catalog keeps it.

    Returns
    -------
    dict of str to list of str, or None
        {name, as in NAMES: values}; None where the file or its tags cannot be read.
    """
    try:
        with _opened(audio, path) as file:
            found = _parsed(file, path)
    except Exception:  # parsers of hostile bytes raise what they like, and a file without labels is no failure
        return None
    values = {name: [_clean(v) for key in keys for v in found.get(key.lower(), [])] for name, keys in NAMES.items()}
    return {name: [v for v in some if v] for name, some in values.items() if any(some)}


def _opened(audio: str, path: str) -> BinaryIO:
    place = paths.audio_path(audio, path)
    if paths.is_url(audio):
        fs, key = files.resolve(place)
        opened: BinaryIO = fs.open(key, "rb")
        return opened
    if not stat.S_ISREG(os.stat(place).st_mode):
        raise OSError("not a regular file")  # to open a pipe would wait for its writer
    return open(place, "rb")  # fsspec would read a name with `::` in it as a chain of URLs


def _parsed(file: BinaryIO, path: str) -> dict[str, list[str]]:
    """{name of the tag in lower case: values}."""
    import mutagen
    import soundfile
    from mutagen.id3 import ID3

    try:
        tagged = mutagen.File(file)
        tags = None if tagged is None else tagged.tags
    except mutagen.MutagenError:
        tagged = tags = None
    if not tags and path.lower().endswith(_CHUNKED):
        file.seek(0)
        with soundfile.SoundFile(file) as sound:
            return {name: [text] for name, text in sound.copy_metadata().items()}
    if tagged is None:  # not music that mutagen knows; its tag may be sound
        file.seek(0)
        tags = ID3(file)
    # ID3 allows a comment for each purpose, `COMM:purpose:language`: the one without a purpose is meant for people
    plain = {k: v for k, v in dict(tags or {}).items() if ":" not in k or "::" in k}
    return {key.partition(":")[0].lower(): _texts(value) for key, value in plain.items()}


def _texts(value: Any) -> list[str]:
    """The values of a tag, whatever kind of tag it is; ID3 numbers of genres become names."""
    if hasattr(value, "genres"):
        return [genre for genre in value.genres if genre != "Unknown"]  # a number that stands for no genre
    values = getattr(value, "text", value)
    values = values if isinstance(values, list) else [values]
    return [str(v[0] if isinstance(v, tuple) else v) for v in values]  # MP4 has (number, total)


def _clean(text: str) -> str:
    # a lone surrogate (broken UTF-16 in ID3) has no place in Arrow's UTF-8
    return text.encode("utf-8", "replace").decode().replace("\x00", ";").strip("; \t\r\n")


def labels_of(tags: Mapping[str, list[str]], path: str) -> dict[str, Any]:
    """Turn the tags of a file into labels.

    Parameters
    ----------
    tags : mapping of str to list of str
        As `read_tags` gives them.
    path : str
        The file in the collection; its name is the title where no tag has one.

    Returns
    -------
    dict of str to object
        Columns of schemas.TRACKS, and `genres` with all names of genres in order.

    Examples
    --------
    >>> labels_of({"genre": ["Rock / Pop"], "year": ["1999-05-01"]}, "a/song.mp3")["genres"]
    ['Rock', 'Pop']
    """
    genres = [g.strip() for text in tags.get("genre", []) for g in _SEPARATOR.split(text) if g.strip()]
    artist = _first(tags, "artist") or _first(tags, "albumartist")
    album = _first(tags, "album")
    owner = normalise(_first(tags, "albumartist") or artist)
    year = _YEAR.search(_first(tags, "year") or "")
    return {
        "title": _first(tags, "title") or paths.stem(path),
        "artist": artist,
        "artist_id": paths.stable_id(f"artist/{normalise(artist)}") if normalise(artist) else None,
        "album": album,
        "album_id": paths.stable_id(f"album/{owner}/{normalise(album)}") if normalise(album) else None,
        "genres": list(dict.fromkeys(genres)),
        "year": int(year[1]) if year else None,
        "number": _number(_first(tags, "track")),
        "disc_number": _number(_first(tags, "disc")),
        "composer": _first(tags, "composer"),
        "information": _first(tags, "comment"),
    }


def _first(tags: Mapping[str, list[str]], name: str) -> str | None:
    return next(iter(tags.get(name, [])), None)


def _number(text: str | None) -> int | None:
    digits = re.match(r"\d{1,6}", text or "", re.ASCII)
    return int(digits[0]) or None if digits else None
