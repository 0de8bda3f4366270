"""A synthetic collection, for tests and for measuring scale. It is not music, and figures on it say nothing of music.

It is any number of tagged files whose true tempo, key, genre and artist are known. Genres differ in rhythm, harmony
and timbre. Every artist has a signature (equaliser, drum kit, tuning, room, level) that is stronger than the
difference between many genres, so a random split leaks artists just as it does on real collections.

`styles` is the table of genres, `clips` plans and renders one clip, `encoding` makes the audio file.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator
from typing import Any

from benchmarks.synthesize.clips import Clip, plan, render
from benchmarks.synthesize.encoding import CONTAINERS, RATES, encode
from benchmarks.synthesize.styles import STYLES
from featurestore.errors import FeatureStoreError, UsageError
from featurestore.store import files
from featurestore.terminal import progress

VERSION = 1  # of the renderer: another version would render other samples for the same seed
SETTINGS_FILE = "synthetic.json"
TRUTH_FILE = "truth.csv"
NOTICE = "Rendered by a program for tests and for measuring scale: not music."


@dataclasses.dataclass(frozen=True)
class Sound:
    """How every clip of a collection is rendered and encoded.

    Attributes
    ----------
    seed : int
    format : str
        mp3, ogg, flac, wav or opus.
    seconds : float
        Length of a clip.
    sample_rate : int
        In Hz.
    channels : int
        1 or 2.
    """

    seed: int
    format: str
    seconds: float
    sample_rate: int
    channels: int


@dataclasses.dataclass(frozen=True)
class SynthesizeReport:
    """What a run did.

    Attributes
    ----------
    folder : str
    tracks : int
        Clips asked for; all of them are in the folder now.
    rendered, existing : int
        How many are new, and how many an earlier run had rendered.
    bytes : int
        Size of the new files.
    genres : tuple of str
    artists : int
    """

    folder: str
    tracks: int
    rendered: int
    existing: int
    bytes: int
    genres: tuple[str, ...]
    artists: int


def synthesize(
    folder: str,
    *,
    tracks: int = 2000,
    genres: int = 8,
    format: str = "mp3",
    seconds: float = 30.0,
    sample_rate: int | None = None,
    channels: int = 2,
    artists_per_genre: int = 10,
    seed: int = 0,
    jobs: int = 1,
) -> SynthesizeReport:
    """Render clips to `folder`/<Genre>/<genre>-artist-<NN>_<NNNN>.<format>, tagged with artist and genre.

    Tracks go round the genres, then round the artists, so both are balanced. What a clip sounds like depends on its
    genre, artist and number, the seed and the sound alone: the bytes are the same whatever `jobs` is, and asking for
    more tracks later adds files without changing those that exist. A file gets its name when it is complete.
    `truth.csv` gives genre, artist, tempo (quarter notes per minute), key (pitch class of the tonic, 0: C), tuning
    (cents) and swing of each file; `synthetic.json` the settings.

    Parameters
    ----------
    folder : str
        Path or URL; what exists there is kept and not rendered again.
    tracks : int
        Clips in the whole collection.
    genres : int
        At most as many as `STYLES` has.
    format : str
        mp3, ogg (Vorbis), flac, wav or opus.
    seconds : float
        Length of a clip.
    sample_rate : int, optional
        In Hz; 44,100 by default, 48,000 for Opus.
    channels : int
        1 or 2.
    artists_per_genre : int
    seed : int
    jobs : int
        Processes at once.

    Returns
    -------
    SynthesizeReport

    Raises
    ------
    UsageError
        Settings out of range, or other than those of the collection in the folder.
    FeatureStoreError
        The folder cannot be written.
    """
    from joblib import Parallel, delayed

    rate = sample_rate or (48000 if format == "opus" else 44100)
    sound = Sound(seed=seed, format=format, seconds=float(seconds), sample_rate=rate, channels=channels)
    _check(sound, tracks, genres, artists_per_genre)
    fs, root = files.resolve(folder)
    _claim(fs, root, sound, artists_per_genre)
    clips = list(_clips(seed, tracks, genres, artists_per_genre))
    existing = {path[len(root) :].lstrip("/") for path in fs.find(root)}
    missing = [clip for clip in clips if relative_path(clip, format) not in existing]
    written = 0
    with progress.bar("rendering", len(missing)) as bar:
        workers = Parallel(n_jobs=min(jobs, max(1, len(missing))), return_as="generator_unordered")
        for size in workers(delayed(_write)(folder, clip, sound) for clip in missing):
            written += size
            bar.advance()
    _write_truth(fs, root, clips, format)
    return SynthesizeReport(
        folder=folder,
        tracks=tracks,
        rendered=len(missing),
        existing=tracks - len(missing),
        bytes=written,
        genres=tuple(s.name for s in STYLES[: min(genres, tracks)]),
        artists=len({(c.style, c.artist) for c in clips}),
    )


def relative_path(clip: Clip, format: str) -> str:
    """Name the file of a clip, below the folder of its collection.

    Parameters
    ----------
    clip : Clip
    format : str

    Returns
    -------
    str
        Such as `House/house-artist-03_0007.mp3`.
    """
    genre = STYLES[clip.style].name
    return f"{genre}/{genre.lower()}-artist-{clip.artist:02d}_{clip.number:04d}.{format}"


def _clips(seed: int, tracks: int, genres: int, artists_per_genre: int) -> Iterator[Clip]:
    for i in range(tracks):
        turn, style = divmod(i, genres)
        number, artist = divmod(turn, artists_per_genre)
        yield plan(seed, style, artist, number)


def _write(folder: str, clip: Clip, sound: Sound) -> int:
    """Render, encode and put one file in place; its size in bytes."""
    samples = render(clip, seconds=sound.seconds, sample_rate=sound.sample_rate, channels=sound.channels)
    path = relative_path(clip, sound.format)
    data = encode(samples, sound.sample_rate, sound.format, _tags(clip), serial=zlib.crc32(path.encode()))
    fs, root = files.resolve(folder)
    files.write_bytes(fs, f"{root}/{path}", data)
    return len(data)


def _artist_name(clip: Clip) -> str:
    return f"{STYLES[clip.style].name} Artist {clip.artist:02d}"


def _tags(clip: Clip) -> dict[str, str]:
    genre = STYLES[clip.style].name
    return {
        "title": f"{genre} {clip.artist:02d}-{clip.number:04d}",
        "artist": _artist_name(clip),
        "album": f"Synthetic {genre} {clip.artist:02d}",
        "genre": genre,
        "comment": NOTICE,
    }


def _write_truth(fs: Any, root: str, clips: list[Clip], format: str) -> None:
    """Rows of these clips, and those that were there: a later run for fewer tracks removes no file either."""
    header = "path,genre,artist,tempo,key,tuning,swing"
    path = f"{root}/{TRUTH_FILE}"
    rows = set(fs.cat_file(path).decode().splitlines()[1:] if fs.exists(path) else [])
    for c in clips:
        labels = f"{STYLES[c.style].name},{_artist_name(c)}"
        rows.add(f"{relative_path(c, format)},{labels},{c.tempo},{c.key},{c.tuning},{c.swing}")
    files.write_bytes(fs, path, "\n".join([header, *sorted(rows), ""]).encode())


def _check(sound: Sound, tracks: int, genres: int, artists_per_genre: int) -> None:
    if sound.format not in CONTAINERS:
        raise UsageError(f"format {sound.format!r} is not known", f"Take one of {', '.join(CONTAINERS)}.")
    for name, value, low, high in (
        ("tracks", tracks, 1, 10_000_000),
        ("genres", genres, 1, len(STYLES)),
        ("artists per genre", artists_per_genre, 1, 10_000),
        ("seconds", sound.seconds, 0.1, 3600),
        ("sample rate", sound.sample_rate, 8000, 192_000),
        ("channels", sound.channels, 1, 2),
        ("seed", sound.seed, 0, 2**32 - 1),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name}: expected {low} to {high}, found {value}")
    rates = RATES.get(sound.format)
    if rates and sound.sample_rate not in rates:
        known = ", ".join(map(str, rates))
        raise UsageError(f"{sound.format} cannot hold {sound.sample_rate} Hz", f"Take one of {known}.")


def _claim(fs: Any, root: str, sound: Sound, artists_per_genre: int) -> None:
    """Note the settings in the folder, or compare with those of the collection that is there."""
    wanted = {
        "notice": NOTICE,
        "version": VERSION,
        **dataclasses.asdict(sound),
        "artists_per_genre": artists_per_genre,
    }
    path = f"{root}/{SETTINGS_FILE}"
    if fs.isfile(root):
        raise FeatureStoreError(f"{root}: is a file, expected a folder", "Name another folder.")
    if not fs.exists(path):
        files.write_bytes(fs, path, (json.dumps(wanted, indent=1) + "\n").encode())
        return
    try:
        found = json.loads(fs.cat_file(path))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FeatureStoreError(f"{path}: is not readable as settings", "Remove the folder, or name another.")
    for name, value in wanted.items():
        if found.get(name) != value:
            raise UsageError(
                f"{root} holds a collection with {name} = {found.get(name)!r}; asked for {value!r}",
                "Name another folder, or give the settings in its synthetic.json.",
            )
