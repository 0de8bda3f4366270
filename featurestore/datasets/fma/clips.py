"""The files of FMA's clips, found by their number (`000/000002.mp3`) anywhere below the audio folder.

A track without a clip there has path NULL, and nobody will try to decode it. A clip that tracks.csv does not list is
kept without labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pyarrow as pa

from featurestore import schemas
from featurestore.datasets import paths
from featurestore.datasets.fma import errata
from featurestore.datasets.scan import scan
from featurestore.errors import MissingInput
from featurestore.terminal.words import examples


@dataclasses.dataclass(frozen=True)
class Clips:
    """The audio files of a folder.

    Attributes
    ----------
    listed : dict of int to str
        The path of each wanted track that has a clip.
    unlisted : dict of int to str
        Track id and path of each file that tracks.csv does not list.
    warnings : tuple of str
        What was left out or is known to be wrong.
    """

    listed: dict[int, str]
    unlisted: dict[int, str]
    warnings: tuple[str, ...]


def find(audio: str, wanted: set[int], everyone: Callable[[], set[int]]) -> Clips:
    """Find the clips below a folder.

    Parameters
    ----------
    audio : str
        Folder or URL.
    wanted : set of int
        The tracks whose clips are looked for.
    everyone : callable
        Gives all tracks that tracks.csv lists: a clip of one outside the wanted subset is no unlisted one.

    Returns
    -------
    Clips

    Raises
    ------
    MissingInput
        There is no clip of a wanted track.
    """
    found = scan(audio)
    numbered, strange, again = _by_number(found.paths)
    listed = {track: path for track, path in numbered.items() if track in wanted}
    if not listed:
        raise MissingInput(
            f"{audio}: {len(found.paths)} audio files, but no clip of the {len(wanted)} tracks wanted "
            "(expected names such as 000/000002.mp3)",
            "Name FMA's own folder (fma_small, or the folder with 000, 001, ... in it) as --audio, or leave --audio "
            "out for labels only.",
        )
    elsewhere = everyone() if len(listed) < len(numbered) else wanted
    unlisted = {track: path for track, path in numbered.items() if track not in elsewhere}
    unlisted |= {paths.track_id("fma", path): path for path in strange}
    warnings = [*found.warnings, *_warnings(wanted, listed, unlisted, again)]
    return Clips(listed, unlisted, tuple(warnings))


def add_paths(tracks: pa.Table, found: Clips) -> pa.Table:
    """Add the column `path`, and a row without labels for each file that tracks.csv does not list.

    Parameters
    ----------
    tracks : pyarrow.Table
        Columns of schemas.TRACKS without `path`.
    found : Clips
        The files.

    Returns
    -------
    pyarrow.Table
        `path` is NULL for a track without a clip.
    """
    path = [found.listed.get(track) for track in tracks["track_id"].to_pylist()]
    tracks = tracks.append_column("path", pa.array(path, pa.string()))
    rows = [{"track_id": i, "dataset": "fma", "path": p} for i, p in sorted(found.unlisted.items())]
    extra = schemas.from_rows(rows, schemas.TRACKS).select(tracks.column_names)
    return pa.concat_tables([tracks.cast(extra.schema), extra])


def _by_number(found: tuple[str, ...]) -> tuple[dict[int, str], list[str], list[str]]:
    """({number: path}, paths whose name is no number, paths of a number that was found before)."""
    clips, strange, again = dict[int, str](), list[str](), list[str]()
    for path in found:
        stem = paths.stem(path)
        if not (stem.isascii() and stem.isdigit() and len(stem) <= 9):
            strange.append(path)
        elif int(stem) in clips:
            again.append(path)
        else:
            clips[int(stem)] = path
    return clips, strange, again


def _warnings(wanted: set[int], listed: dict[int, str], unlisted: dict[int, str], again: list[str]) -> list[str]:
    absent = [f"{i:06d}" for i in wanted - listed.keys()]
    empty, short = errata.expected_failures(listed), errata.expected_short(listed)
    strange = list(unlisted.values())
    sentences = {
        f"clips of a track found twice, the first path is used: {examples(again)}": again,
        f"audio files that tracks.csv does not list, kept without labels: {examples(strange)}": strange,
        f"tracks without a clip in the audio folder, labels only: {examples(absent)} of {len(wanted)}": absent,
        f"clips that FMA published empty (its errata); they will be reported as failures: {_numbers(empty)}": empty,
        f"clips that FMA published short (its errata): {_numbers(short)}": short,
    }
    return [sentence for sentence, some in sentences.items() if some]


def _numbers(tracks: list[int]) -> str:
    return ", ".join(f"{track:06d}" for track in tracks)
