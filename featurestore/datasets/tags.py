"""`tags`: anyone's music, labelled by the tags in its own files (ID3, Vorbis comments, MP4 and others).

A file without a genre is kept with genre NULL, one whose tags cannot be read with no labels at all: decoding will tell
whether it is music. Genres that differ only in case are one genre, spelled as most files spell it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, BinaryIO

from featurestore.catalog.splits import normalise
from featurestore.datasets import paths
from featurestore.datasets.collection import Collection, from_files
from featurestore.datasets.scan import scan
from featurestore.store import files
from featurestore.terminal.progress import bar as progress
from featurestore.terminal.words import examples

_YEAR = re.compile(r"\b(1[5-9]\d\d|20\d\d)\b")
_SEPARATOR = re.compile(r"[;\x00]|\s/\s")


def load(audio: str) -> Collection:
    """Catalog the audio files below `audio`. Raises MissingInput where there is no folder or no audio file."""
    found = scan(audio)
    labels, unread = list[dict[str, Any]](), list[str]()
    with progress("reading tags", len(found.paths)) as bar:
        for path in found.paths:
            tags = read_tags(audio, path)
            if tags is None:
                unread.append(path)
            labels.append(labels_of(tags or {}, path))
            bar.advance()
    _unify_genres(labels)
    warnings = list(found.warnings)
    if unread:
        warnings.append(f"files whose tags cannot be read, kept without labels: {examples(unread)}")
    bare = [p for p, label in zip(found.paths, labels, strict=True) if not label["genre"]]
    if bare:
        warnings.append(f"files without a genre, kept with genre NULL: {examples(bare)}")
    return from_files("tags", audio, found.paths, labels, tuple(warnings))


def read_tags(audio: str, path: str) -> dict[str, list[str]] | None:
    """The tags of one file as {name: values}, names as tinytag gives them; None where they cannot be read."""
    from tinytag import TinyTag, TinyTagException

    try:
        with _opened(audio, path) as f:
            tag = TinyTag.get(paths.stem(path), file_obj=f, duration=False, image=False)
    except (OSError, TinyTagException):
        return None
    return {k: [_clean(v) for v in vs if isinstance(v, str) and _clean(v)] for k, vs in _values(tag).items()}


def _opened(audio: str, path: str) -> BinaryIO:
    place = paths.audio_path(audio, path)
    if not paths.is_url(audio):
        return open(place, "rb")  # fsspec would read a name with `::` in it as a chain of URLs
    fs, key = files.resolve(place)
    opened: BinaryIO = fs.open(key, "rb")
    return opened


def _values(tag: Any) -> dict[str, list[Any]]:
    known = ("title", "artist", "albumartist", "album", "genre", "year", "track", "disc", "composer", "comment")
    found: dict[str, list[Any]] = {name: list(values) for name, values in tag.other.items()}
    for name in known:
        value = getattr(tag, name, None)
        if value is not None:
            found[name] = [str(value), *found.get(name, [])]
    return found


def _clean(text: str) -> str:
    # a lone surrogate (broken UTF-16 in ID3) has no place in Arrow's UTF-8
    return text.encode("utf-8", "replace").decode().replace("\x00", ";").strip("; \t\r\n")


def labels_of(tags: dict[str, list[str]], path: str) -> dict[str, Any]:
    """Columns of schemas.TRACKS (and `genres`, all genre names) from one file's tags."""
    genres = list(
        dict.fromkeys(g.strip() for text in tags.get("genre", []) for g in _SEPARATOR.split(text) if g.strip())
    )
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
        "genre": genres[0] if genres else None,
        "genres": genres,
        "year": int(year[1]) if year else None,
        "number": _number(_first(tags, "track")),
        "disc_number": _number(_first(tags, "disc")),
        "composer": _first(tags, "composer"),
        "information": _first(tags, "comment"),
    }


def _first(tags: dict[str, list[str]], name: str) -> str | None:
    return next(iter(tags.get(name, [])), None)


def _number(text: str | None) -> int | None:
    digits = re.match(r"\d{1,6}", text or "")
    return int(digits[0]) or None if digits else None


def _unify_genres(labels: list[dict[str, Any]]) -> None:
    spellings: dict[str, Counter[str]] = {}
    for label in labels:
        for genre in label["genres"]:
            spellings.setdefault(genre.casefold(), Counter())[genre] += 1
    # the most common spelling; between equals the first in the alphabet
    spelled = {key: min(found, key=lambda g: (-found[g], g)) for key, found in spellings.items()}
    for label in labels:
        label["genres"] = list(dict.fromkeys(spelled[g.casefold()] for g in label["genres"]))
        label["genre"] = label["genres"][0] if label["genres"] else None
