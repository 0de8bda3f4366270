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


_Notes = collections.defaultdict[str, list[str]]  # {reason: names of what was left out for it}


def scan(audio: str) -> Scan:
    """Find every audio file below a folder, known by its suffix (see `paths.AUDIO_SUFFIXES`).

    Parameters
    ----------
    audio : str
        Folder or URL.

    Returns
    -------
    Scan

    Raises
    ------
    MissingInput
        There is no such folder, or no audio file below it.
    """
    notes = _Notes(list)
    found = _scan_url(audio, notes) if paths.is_url(audio) else _scan_local(audio, notes)
    warnings = tuple(f"{reason}: {examples(names)}" for reason, names in sorted(notes.items()))
    if not found:
        details = "".join(f"\n  {w}" for w in warnings)
        raise MissingInput(
            f"{audio}: no audio file in this folder or below it{details}",
            "Name a folder that holds some (.mp3, .ogg, .flac, .wav, .opus, .m4a, ...).",
        )
    return Scan(tuple(sorted(found)), warnings)


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
        notes["hidden files and folders ignored"].append(stored)
        return False
    if posixpath.splitext(name)[1].lower() not in paths.AUDIO_SUFFIXES:
        notes["files that are not audio by their suffix ignored"].append(stored)
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
        notes[f"folders that cannot be read ({error.strerror})"].append(_stored(root, error.filename))

    folder_links, file_links = list[str](), list[str]()
    for place, folders, names in os.walk(os.path.join(root, start), onerror=unreadable):
        if not _first_time(os.stat(place), seen):
            notes["folders reached twice through links, read once"].append(_stored(root, place))
            folders.clear()
            continue
        folders.sort(key=os.fsencode)
        for folder in folders.copy():
            path = os.path.join(place, folder)
            if folder.startswith("."):
                notes["hidden files and folders ignored"].append(_stored(root, path))
                folders.remove(folder)
            elif os.path.islink(path):
                folder_links.append(os.path.relpath(path, root))
        for name in sorted(names, key=os.fsencode):
            path = os.path.join(place, name)
            if _wanted(name, _stored(root, path), notes):
                if os.path.islink(path):
                    file_links.append(path)
                else:
                    _take(root, path, seen, found, notes)
    for path in file_links:
        _take(root, path, seen, found, notes)
    return folder_links


def _stored(root: str, path: str) -> str:
    """A path below the root as the catalog keeps it."""
    return paths.encode_name(os.path.relpath(path, root))


def _take(root: str, path: str, seen: set[tuple[int, int]], found: list[str], notes: _Notes) -> None:
    stored = _stored(root, path)
    try:
        status = os.stat(path)
    except OSError:
        notes["links that lead nowhere ignored"].append(stored)
        return
    if not stat.S_ISREG(status.st_mode):
        notes["pipes, sockets and devices ignored"].append(stored)
    elif not _first_time(status, seen):
        notes["links to a file already found left out"].append(stored)
    else:
        found.append(stored)


def _first_time(status: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    identity = (status.st_dev, status.st_ino)
    if status.st_ino and identity in seen:
        return False
    seen.add(identity)
    return True
