"""Finding the audio files below a folder or URL, each once.

Symbolic links are followed. A file or folder that is reached a second time (a loop, a link, a hard link) is left out
and reported; the real place wins over a link to it, the first name in sorted order over a second hard link.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import posixpath
import stat
from collections.abc import Sequence

from featurestore.datasets import paths
from featurestore.errors import MissingInput
from featurestore.store import files
from featurestore.terminal.words import examples


@dataclasses.dataclass(frozen=True)
class Scan:
    """The audio files found.

    Attributes
    ----------
    paths : tuple of str
        Relative to the folder, as the catalog keeps them, sorted.
    warnings : tuple of str
        What was left out, one sentence for each reason.
    """

    paths: tuple[str, ...]
    warnings: tuple[str, ...]


class _Notes:
    """Counts of what was left out, by reason, with a few names each."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = collections.defaultdict(list)

    def add(self, reason: str, name: str) -> None:
        self._names[reason].append(name)

    def warnings(self) -> tuple[str, ...]:
        return tuple(f"{reason}: {examples(names)}" for reason, names in sorted(self._names.items()))


def scan(audio: str) -> Scan:
    """Every audio file below the folder or URL `audio`, known by its suffix (see paths.AUDIO_SUFFIXES).

    Raises MissingInput where there is none.
    """
    notes = _Notes()
    found = _scan_url(audio, notes) if paths.is_url(audio) else _scan_local(audio, notes)
    if not found:
        details = "".join(f"\n  {w}" for w in notes.warnings())
        raise MissingInput(
            f"{audio}: no audio file in this folder or below it{details}",
            "Name a folder that holds some (.mp3, .ogg, .flac, .wav, .opus, .m4a, ...).",
        )
    return Scan(tuple(sorted(found)), notes.warnings())


def audio_files(places: Sequence[str]) -> list[str]:
    """The files named, and all audio files below the folders named.

    Parameters
    ----------
    places : sequence of str
        Files, whatever their suffix, and folders.

    Returns
    -------
    list of str
        Paths, sorted within each folder.

    Raises
    ------
    MissingInput
        One is not there, or a folder holds no audio file.
    """
    found: list[str] = []
    for place in places:
        if os.path.isdir(place):
            found += [paths.audio_path(place, stored) for stored in scan(place).paths]
        elif os.path.exists(place):
            found.append(place)
        else:
            raise MissingInput(f"{place}: no such file or folder", "Name audio files, or folders that hold some.")
    return found


def _wanted(name: str, stored: str, notes: _Notes) -> bool:
    if any(part.startswith(".") for part in name.split("/")):
        notes.add("hidden files and folders ignored", stored)
        return False
    if posixpath.splitext(name)[1].lower() not in paths.AUDIO_SUFFIXES:
        notes.add("files that are not audio by their suffix ignored", stored)
        return False
    return True


def _scan_url(audio: str, notes: _Notes) -> list[str]:
    fs, root = files.resolve(audio)
    try:
        names = [n.removeprefix(root).lstrip("/") for n in fs.find(root)]
    except OSError as error:
        raise MissingInput(
            f"{audio}: cannot be listed ({error})", "Check the URL of --audio and your access."
        ) from None
    return [n for n in names if _wanted(n, n, notes)]


def _scan_local(audio: str, notes: _Notes) -> list[str]:
    root = os.path.expanduser(audio)
    if not os.path.isdir(root):
        what = "is a file" if os.path.exists(root) else "does not exist"
        raise MissingInput(f"{audio}: expected a folder with audio files, but it {what}", "Check the path of --audio.")
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    # real folders first: whatever a link leads to is then known already if it lies below the root
    links = [""]
    while links:
        links = [link for start in links for link in _walk(root, start, seen, found, notes)]
    return found


def _walk(root: str, start: str, seen: set[tuple[int, int]], found: list[str], notes: _Notes) -> list[str]:
    """Collect the files below the folder `start`, links to files last; return the links to folders."""

    def unreadable(error: OSError) -> None:
        notes.add(f"folders that cannot be read ({error.strerror})", paths.encode_name(_below(root, error.filename)))

    folder_links, file_links = list[str](), list[str]()
    for place, folders, names in os.walk(os.path.join(root, start), onerror=unreadable):
        if not _first_time(os.stat(place), seen):
            notes.add("folders reached twice through links, read once", paths.encode_name(_below(root, place)))
            folders.clear()
            continue
        folders.sort(key=os.fsencode)
        for folder in folders.copy():
            path = os.path.join(place, folder)
            if folder.startswith("."):
                notes.add("hidden files and folders ignored", paths.encode_name(_below(root, path)))
                folders.remove(folder)
            elif os.path.islink(path):
                folder_links.append(_below(root, path))
        for name in sorted(names, key=os.fsencode):
            path = os.path.join(place, name)
            if _wanted(name, paths.encode_name(_below(root, path)), notes):
                if os.path.islink(path):
                    file_links.append(path)
                else:
                    _take(root, path, seen, found, notes)
    for path in file_links:
        _take(root, path, seen, found, notes)
    return folder_links


def _below(root: str, path: str) -> str:
    return os.path.relpath(path, root)


def _take(root: str, path: str, seen: set[tuple[int, int]], found: list[str], notes: _Notes) -> None:
    stored = paths.encode_name(_below(root, path))
    try:
        status = os.stat(path)
    except OSError:
        notes.add("links that lead nowhere ignored", stored)
        return
    if not stat.S_ISREG(status.st_mode):
        notes.add("pipes, sockets and devices ignored", stored)
    elif not _first_time(status, seen):
        notes.add("links to a file already found left out", stored)
    else:
        found.append(stored)


def _first_time(status: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    identity = (status.st_dev, status.st_ino)
    if status.st_ino and identity in seen:
        return False
    seen.add(identity)
    return True
