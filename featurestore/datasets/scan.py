"""Finding the audio files below a folder or URL, each once.

Symbolic links are followed. A file or folder that is reached a second time (a loop, a link, a hard link) is left out
and reported; the real place wins over a link to it, the first name in sorted order over a second hard link.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import posixpath
from typing import Any

from featurestore.datasets import paths
from featurestore.errors import MissingInput
from featurestore.store import files
from featurestore.terminal.words import examples

AUDIO_SUFFIXES = frozenset(
    (
        *(".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".dts", ".flac", ".m4a", ".m4b"),
        *(".mka", ".mkv", ".mp2", ".mp3", ".mp4", ".mpc", ".mpga", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".spx"),
        *(".tta", ".voc", ".w64", ".wav", ".wave", ".webm", ".wma", ".wv"),
    )
)


@dataclasses.dataclass(frozen=True)
class Scan:
    """The audio files found: paths as the catalog keeps them, sorted; and what was left out, in words."""

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
    """Every audio file below `audio` (by its suffix, see AUDIO_SUFFIXES). Raises MissingInput where there is none."""
    notes = _Notes()
    found = _scan_url(audio, notes) if paths.is_url(audio) else _scan_local(audio, notes)
    if not found:
        details = "".join(f"\n  {w}" for w in notes.warnings())
        raise MissingInput(
            f"{audio}: no audio file in this folder or below it{details}",
            "Name a folder with audio (.mp3, .ogg, .flac, .wav, .opus, .m4a, ...) as --audio.",
        )
    return Scan(tuple(sorted(found)), notes.warnings())


def _wanted(name: str, stored: str, notes: _Notes) -> bool:
    if any(part.startswith(".") for part in name.split("/")):
        notes.add("hidden files and folders ignored", stored)
        return False
    if posixpath.splitext(name)[1].lower() not in AUDIO_SUFFIXES:
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
    folders, folder_links = [start], list[str]()
    file_links: list[tuple[os.DirEntry[str], str]] = []
    while folders:
        folder = folders.pop()
        try:
            if not _first_time(os.stat(os.path.join(root, folder)), seen):
                notes.add("folders reached twice through links, read once", paths.encode_name(folder))
                continue
            with os.scandir(os.path.join(root, folder)) as listing:
                entries = sorted(listing, key=lambda e: os.fsencode(e.name))
        except OSError as error:
            notes.add(f"folders that cannot be read ({error.strerror})", paths.encode_name(folder) or ".")
            continue
        below: list[str] = []
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if _is_folder(entry):
                if entry.name.startswith("."):
                    notes.add("hidden files and folders ignored", paths.encode_name(path))
                else:
                    (folder_links if entry.is_symlink() else below).append(path)
            elif _wanted(entry.name, paths.encode_name(path), notes):
                if entry.is_symlink():
                    file_links.append((entry, path))
                else:
                    _take(entry, path, seen, found, notes)
        folders += reversed(below)
    for entry, path in file_links:
        _take(entry, path, seen, found, notes)
    return folder_links


def _take(entry: os.DirEntry[str], path: str, seen: set[tuple[int, int]], found: list[str], notes: _Notes) -> None:
    stored = paths.encode_name(path)
    try:
        if not _first_time(entry.stat(), seen):
            notes.add("links to a file already found left out", stored)
            return
    except OSError:
        notes.add("links that lead nowhere ignored", stored)
        return
    found.append(stored)


def _first_time(stat: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    identity = (stat.st_dev, stat.st_ino)
    if stat.st_ino and identity in seen:
        return False
    seen.add(identity)
    return True


def _is_folder(entry: os.DirEntry[Any]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
