"""`fma`: the Free Music Archive data set (Defferrard et al., arXiv 1612.01840), from its own files.

`tracks.csv` has three header rows and 52 columns, `genres.csv` the hierarchy of 163. Values equal FMA's own loader
(`utils.load`): lists parsed, dates as dates, empty where pandas reads empty. Subsets are ordered: small < medium <
large < full (large and full are the same tracks, cut and whole).

Every track of the wanted subset is in the catalog, with its labels. Clips are found by their number
(`000/000002.mp3`) anywhere below the audio folder; a track without a clip there has path NULL, and nobody will
try to decode it. A clip that tracks.csv does not list is kept without labels.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from featurestore import schemas
from featurestore.datasets import csv_blocks, paths
from featurestore.datasets.collection import Collection
from featurestore.datasets.fma import errata, fma_csv, raw
from featurestore.datasets.scan import scan
from featurestore.errors import FeatureStoreError, MissingInput
from featurestore.store import files
from featurestore.terminal.words import examples

_TEXT, _NUMBER = pa.string(), pa.float64()
# FMA's (level 1, level 2) -> column of schemas.TRACKS; all others are `<level 2>` or, for album and artist, as below
_RENAMED = {
    ("album", "date_released"): "date_released",
    ("album", "id"): "album_id",
    ("album", "title"): "album",
    ("artist", "name"): "artist",
    ("set", "split"): "official_split",
    ("set", "subset"): "subset",
    ("track", "duration"): "claimed_duration_s",
    ("track", "genre_top"): "genre",
    ("track", "genres"): "genre_ids",
    ("track", "genres_all"): "genre_ids_all",
}
NEEDED = (("set", "split"), ("set", "subset"), ("track", "genre_top"))


def load(metadata: str, *, audio: str | None = None, subset: str | None = None) -> Collection:
    """Read FMA's labels, and find its clips below `audio` where given.

    Raises MissingInput where `metadata` has no tracks.csv and genres.csv in FMA's layout or `audio` holds no clip of
    FMA, FeatureStoreError where a value cannot be read.
    """
    folder = metadata_folder(metadata)
    genres = read_genres(f"{folder}/genres.csv")
    tracks, warnings = read_tracks(f"{folder}/tracks.csv", subset)
    tracks, more = raw.add_columns(tracks, folder)
    warnings += more
    if audio is not None:
        tracks, more = _with_clips(tracks, f"{folder}/tracks.csv", audio)
        warnings += more
    tracks = schemas.conform(tracks.sort_by("track_id"), schemas.TRACKS)
    return Collection("fma", audio, metadata, tracks, genres, tuple(warnings))


def metadata_folder(metadata: str) -> str:
    """The folder with tracks.csv: `metadata` itself, or `fma_metadata` in it."""
    fs, root = files.resolve(metadata)
    for folder, place in (
        (metadata.rstrip("/"), root),
        (f"{metadata.rstrip('/')}/fma_metadata", f"{root}/fma_metadata"),
    ):
        if fs.exists(f"{place}/tracks.csv"):
            missing = [n for n in ("genres.csv",) if not fs.exists(f"{place}/{n}")]
            if not missing:
                return folder
            raise MissingInput(f"{folder}: no {missing[0]} beside tracks.csv", _FETCH)
    raise MissingInput(f"{metadata}: expected a folder with FMA's tracks.csv and genres.csv, found neither", _FETCH)


_FETCH = "Get them with `python -m featurestore fetch fma_metadata`."


def read_genres(path: str) -> pa.Table:
    """genres.csv as schemas.GENRES; FMA's parent 0 (a top-level genre) becomes NULL."""
    header = next(iter(csv_blocks.first_rows(path, 1)), [])
    wanted = {"genre_id": pa.int32(), "title": _TEXT, "parent": pa.int32(), "top_level": pa.int32()}
    lacking = [c for c in wanted if c not in header]
    if lacking:
        raise MissingInput(f"{path}: expected FMA's columns, {', '.join(lacking)} not among them", _FETCH)
    types = {header.index(name): kind for name, kind in wanted.items()}
    table = pa.Table.from_batches(csv_blocks.blocks(path, header, 1, types)).rename_columns(schemas.GENRES.names)
    parent = pc.if_else(pc.equal(table["parent_id"], 0), None, table["parent_id"])
    table = table.set_column(table.schema.get_field_index("parent_id"), "parent_id", parent)
    return schemas.conform(table.sort_by("genre_id"), schemas.GENRES)


def read_tracks(path: str, subset: str | None = None) -> tuple[pa.Table, list[str]]:
    """tracks.csv as columns of schemas.TRACKS (one row a track, in the file's order), and warnings.

    Read once, in blocks; rows outside `subset` are dropped as they come.
    """
    names, columns = _layout(path)
    kinds = {0: pa.int64(), **{i: _source_type(column) for i, column in columns.items()}}
    wanted = schemas.SUBSETS[: schemas.SUBSETS.index(subset) + 1] if subset else None
    parts, bad_dates = [], dict[str, list[str]]()
    for block in csv_blocks.blocks(path, names, 3, kinds):
        batch = block.rename_columns(["track_id", *columns.values()])
        if wanted:
            batch = batch.filter(pc.is_in(batch["subset"], pa.array(wanted)))
        try:
            parts.append(_convert(batch, bad_dates))
        except ValueError as error:  # pyarrow's are ValueErrors too
            first, last = batch["track_id"][0], batch["track_id"][-1]
            raise FeatureStoreError(f"{path}: in tracks {first} to {last}: {error}", _FETCH) from None
    if not sum(map(len, parts)):
        raise MissingInput(f"{path}: no tracks of the subset {subset or 'full'}", _FETCH)
    warnings = [f"tracks.csv: {name}: no date in a known form, left NULL: {t}" for name, t in bad_dates.items()]
    return _without_repeats(pa.Table.from_batches(parts), warnings)


def _layout(path: str) -> tuple[list[str], dict[int, str]]:
    """Names of all the file's columns (`track/title`), and {position: column of schemas.TRACKS} where there is one."""
    header = csv_blocks.first_rows(path, 3)
    if len(header) < 3 or not header[2] or header[2][0] != "track_id":
        raise MissingInput(f"{path}: expected FMA's three header rows, the third beginning with track_id", _FETCH)
    pairs = list(zip(header[0], header[1], strict=False))
    lacking = [f"{a}/{b}" for a, b in NEEDED if (a, b) not in pairs]
    if lacking:
        raise MissingInput(f"{path}: expected FMA's columns, {', '.join(lacking)} not among them", _FETCH)
    columns = {i: column_of(a, b) for i, (a, b) in enumerate(pairs) if i}
    known = {i: column for i, column in columns.items() if column in schemas.TRACKS.names}
    if len(set(known.values())) < len(known):
        raise MissingInput(f"{path}: two columns with the same name, or with names that are not FMA's", _FETCH)
    return ["track_id", *(f"{a}/{b}" for a, b in pairs[1:])], known


def column_of(level: str, name: str) -> str:
    """The column of schemas.TRACKS that holds FMA's column (level, name)."""
    prefix = f"{level}_" if level in ("album", "artist") else ""
    return _RENAMED.get((level, name), prefix + name)


def _source_type(column: str) -> pa.DataType:
    kind = schemas.TRACKS.field(column).type
    # whole numbers are written "256000.0" where pandas met an empty cell in the column
    return _NUMBER if pa.types.is_integer(kind) or pa.types.is_floating(kind) else _TEXT


def _convert(batch: pa.RecordBatch, bad_dates: dict[str, list[str]]) -> pa.RecordBatch:
    arrays = {"dataset": pa.array(["fma"] * len(batch), _TEXT)}
    for column in batch.schema.names:
        kind = schemas.TRACKS.field(column).type
        if pa.types.is_list(kind):
            arrays[column] = fma_csv.parse_lists(batch[column], kind.value_type)
        elif pa.types.is_timestamp(kind):
            arrays[column], lost = fma_csv.parse_dates(batch[column])
            if lost:
                bad_dates.setdefault(column, lost)
        else:
            arrays[column] = batch[column].cast(kind)
    if "date_released" in arrays:
        arrays["year"] = pc.year(arrays["date_released"]).cast(pa.int32())
    return pa.record_batch(arrays)


def _without_repeats(tracks: pa.Table, warnings: list[str]) -> tuple[pa.Table, list[str]]:
    numbered = tracks.select(["track_id"]).append_column("row", pa.array(range(len(tracks)), pa.int64()))
    first = numbered.group_by("track_id").aggregate([("row", "min")])["row_min"]
    if len(first) == len(tracks):
        return tracks, warnings
    repeated = f"tracks.csv: {len(tracks) - len(first)} rows repeat a track id; the first of each is kept"
    return tracks.take(first), [*warnings, repeated]


def _with_clips(tracks: pa.Table, source: str, audio: str) -> tuple[pa.Table, list[str]]:
    """`tracks` with `path` where a clip lies below `audio`, and a row without labels for each clip not listed."""
    found = scan(audio)
    warnings = list(found.warnings)
    clips, strange = _by_number(found.paths, warnings)
    listed = set(tracks["track_id"].to_pylist())
    present = listed & clips.keys()
    if not present:
        raise MissingInput(
            f"{audio}: {len(found.paths)} audio files, but no clip of the {len(listed)} tracks wanted "
            "(expected names such as 000/000002.mp3)",
            "Name FMA's own folder (fma_small, or the folder with 000, 001, ... in it) as --audio, or leave --audio "
            "out for labels only.",
        )
    path = [clips.get(i) for i in tracks["track_id"].to_pylist()]
    tracks = tracks.append_column("path", pa.array(path, _TEXT))
    elsewhere = _all_ids(source) if clips.keys() - listed else listed
    unlisted = {i: p for i, p in clips.items() if i not in elsewhere} | {paths.track_id("fma", p): p for p in strange}
    if unlisted:
        rows = [{"track_id": i, "dataset": "fma", "path": p} for i, p in sorted(unlisted.items())]
        extra = schemas.from_rows(rows, schemas.TRACKS).select(tracks.column_names)
        tracks = pa.concat_tables([tracks.cast(extra.schema), extra])
        warnings.append(
            f"audio files that tracks.csv does not list, kept without labels: {examples(list(unlisted.values()))}"
        )
    return tracks, warnings + _clip_warnings(listed, present)


def _by_number(found: tuple[str, ...], warnings: list[str]) -> tuple[dict[int, str], list[str]]:
    clips, strange, again = dict[int, str](), list[str](), list[str]()
    for path in found:
        stem = paths.stem(path)
        if not (stem.isascii() and stem.isdigit() and len(stem) <= 9):
            strange.append(path)
        elif int(stem) in clips:
            again.append(path)
        else:
            clips[int(stem)] = path
    if again:
        warnings.append(f"clips of a track found twice, the first path is used: {examples(again)}")
    return clips, strange


def _all_ids(source: str) -> set[int]:
    names, _ = _layout(source)
    found = csv_blocks.blocks(source, names, 3, {0: pa.int64()})
    return {number for block in found for number in block.column(0).to_pylist()}


def _clip_warnings(listed: set[int], present: set[int]) -> list[str]:
    warnings = []
    absent = sorted(listed - present)
    if absent:
        some = examples([f"{i:06d}" for i in absent])
        warnings.append(f"tracks without a clip in the audio folder, labels only: {some} of {len(listed)}")
    checks: list[tuple[Callable[[set[int]], list[int]], str]] = [
        (
            errata.expected_failures,
            "clips that FMA published empty (its errata); they will be reported as failures",
        ),
        (errata.expected_short, "clips that FMA published short (its errata)"),
    ]
    for check, text in checks:
        known = check(present)
        if known:
            warnings.append(f"{text}: {', '.join(f'{i:06d}' for i in known)}")
    return warnings
