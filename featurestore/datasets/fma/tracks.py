"""`fma`: the Free Music Archive data set (Defferrard et al., arXiv 1612.01840), from its own files.

`tracks.csv` has three header rows and 52 columns, `genres.csv` the hierarchy of 163. Values equal FMA's own loader
(`utils.load`): lists parsed, dates as dates, empty where pandas reads empty. Subsets are ordered: small < medium <
large < full (large and full are the same tracks, cut and whole).

Every track of the wanted subset is in the catalog, with its labels; `clips` finds its file.
"""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import schemas
from featurestore.datasets import tables
from featurestore.datasets.collection import Collection
from featurestore.datasets.fma import clips, raw
from featurestore.errors import FeatureStoreError, MissingInput
from featurestore.store import files

# FMA's `level 1/level 2` -> column of schemas.TRACKS; all others are `<level 2>` or, for album and artist, as below
_RENAMED = {
    "album/date_released": "date_released",
    "album/id": "album_id",
    "album/title": "album",
    "artist/name": "artist",
    "set/split": "official_split",
    "set/subset": "subset",
    "track/duration": "claimed_duration_s",
    "track/genre_top": "genre",
    "track/genres": "genre_ids",
    "track/genres_all": "genre_ids_all",
}
NEEDED = ("set/split", "set/subset", "track/genre_top")
DATE_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%m/%d/%Y %I:%M:%S %p", "%Y")
_FETCH = "Get them with `python -m featurestore fetch fma_metadata`."


def load(metadata: str, *, audio: str | None = None, subset: str | None = None) -> Collection:
    """Read FMA's labels, and find its clips.

    Parameters
    ----------
    metadata : str
        Folder or URL with tracks.csv and genres.csv, or with the folder `fma_metadata` that has them.
    audio : str, optional
        Folder or URL with the clips; labels only without it.
    subset : str, optional
        small, medium, large or full (the default).

    Returns
    -------
    Collection
        One row for each track of the subset, and for each audio file that tracks.csv does not list.

    Raises
    ------
    MissingInput
        `metadata` has no tracks.csv and genres.csv in FMA's layout, or `audio` holds no clip of FMA.
    FeatureStoreError
        A value cannot be read.
    """
    folder = metadata_folder(metadata)
    source = f"{folder}/tracks.csv"
    genres = read_genres(f"{folder}/genres.csv")
    tracks, warnings = read_tracks(source, subset)
    tracks, more = raw.add_columns(tracks, folder)
    warnings += more
    if audio is not None:
        found = clips.find(audio, set(tracks["track_id"].to_pylist()), lambda: _all_ids(source))
        tracks = clips.add_paths(tracks, found)
        warnings += found.warnings
    tracks = schemas.conform(tracks.sort_by("track_id"), schemas.TRACKS)
    return Collection("fma", audio, metadata, tracks, genres, tuple(warnings))


def metadata_folder(metadata: str) -> str:
    """Find the folder with tracks.csv and genres.csv.

    Parameters
    ----------
    metadata : str
        That folder, or one with the folder `fma_metadata` in it; a path or URL.

    Returns
    -------
    str

    Raises
    ------
    MissingInput
        Neither holds both files.
    """
    fs, root = files.resolve(metadata)
    for below in ("", "/fma_metadata"):
        if fs.exists(f"{root}{below}/tracks.csv"):
            folder = metadata.rstrip("/") + below
            if fs.exists(f"{root}{below}/genres.csv"):
                return folder
            raise MissingInput(f"{folder}: no genres.csv beside tracks.csv", _FETCH)
    raise MissingInput(f"{metadata}: expected a folder with FMA's tracks.csv and genres.csv, found neither", _FETCH)


def read_genres(path: str) -> pa.Table:
    """Read genres.csv.

    Parameters
    ----------
    path : str
        The file or its URL.

    Returns
    -------
    pyarrow.Table
        schemas.GENRES, sorted by id; FMA's parent 0 (a top-level genre) is NULL.

    Raises
    ------
    MissingInput
        The file is not there, or lacks columns.
    """
    number = pa.int32()
    wanted = {"genre_id": number, "title": pa.string(), "parent": number, "top_level": number}
    table = tables.inspect(path)
    _require(table, tuple(wanted))
    genres = table.read_columns(wanted).rename_columns(schemas.GENRES.names)
    parent = pc.if_else(pc.equal(genres["parent_id"], 0), None, genres["parent_id"])
    genres = genres.set_column(genres.schema.get_field_index("parent_id"), "parent_id", parent)
    return schemas.conform(genres.sort_by("genre_id"), schemas.GENRES)


def read_tracks(path: str, subset: str | None = None) -> tuple[pa.Table, list[str]]:
    """Read tracks.csv.

    Parameters
    ----------
    path : str
        The file or its URL.
    subset : str, optional
        Only the tracks of this subset (it contains the smaller ones).

    Returns
    -------
    tracks : pyarrow.Table
        Columns of schemas.TRACKS, one row a track, in the file's order.
    warnings : list of str
        Dates that could not be read, ids that stand twice.

    Raises
    ------
    MissingInput
        It is not FMA's file, or has no track of the subset.
    FeatureStoreError
        A value cannot be read.
    """
    table = tables.inspect(path)
    columns = _columns(table)
    types = {table.position(name): _source_type(column) for name, column in columns.items()}
    wanted = pa.array(schemas.SUBSETS[: schemas.SUBSETS.index(subset) + 1] if subset else [], pa.string())
    names = list(columns.values())
    parts = (batch.rename_columns(names) for batch in table.batches(types))
    found = [part.filter(pc.is_in(part["subset"], wanted)) if subset else part for part in parts]
    if not sum(map(len, found)):
        raise MissingInput(f"{path}: no tracks of the subset {subset or 'full'}", _FETCH)
    tracks, warnings = _convert(path, pa.Table.from_batches(found).combine_chunks())
    first = np.sort(np.unique(tracks["track_id"].to_numpy(), return_index=True)[1])  # where each id first stands
    if len(first) < len(tracks):
        warnings.append(f"tracks.csv: {len(tracks) - len(first)} rows repeat a track id; the first of each is kept")
    return tracks.take(first), warnings


def _require(table: tables.TableFile, names: tuple[str, ...]) -> None:
    lacking = [name for name in names if name not in table.names]
    if lacking:
        raise MissingInput(f"{table.path}: expected FMA's columns, {', '.join(lacking)} not among them", _FETCH)


def _columns(table: tables.TableFile) -> dict[str, str]:
    """{column of the file (`track/title`): column of schemas.TRACKS} where there is one, track_id first."""
    if table.dialect is None or table.dialect.header_rows != 3 or table.names[0] != "track_id":
        raise MissingInput(f"{table.path}: expected FMA's three header rows, the third beginning with track_id", _FETCH)
    _require(table, NEEDED)
    columns = {name: column_of(*name.split("/", 1)) for name in table.names[1:]}
    known = {name: column for name, column in columns.items() if column in schemas.TRACKS.names}
    if len(columns) < len(table.names) - 1 or len(set(known.values())) < len(known) or "track_id" in known.values():
        raise MissingInput(f"{table.path}: two columns with the same name, or with names that are not FMA's", _FETCH)
    return {"track_id": "track_id", **known}


def column_of(level: str, name: str) -> str:
    """Find the column of schemas.TRACKS that holds one of FMA's.

    Parameters
    ----------
    level, name : str
        The first two header rows of tracks.csv.

    Returns
    -------
    str
        A name, whether schemas.TRACKS has that column or not.

    Examples
    --------
    >>> column_of("track", "genre_top"), column_of("album", "type"), column_of("track", "title")
    ('genre', 'album_type', 'title')
    """
    prefix = f"{level}_" if level in ("album", "artist") else ""
    return _RENAMED.get(f"{level}/{name}", prefix + name)


def _source_type(column: str) -> pa.DataType:
    if column == "track_id":
        return pa.int64()
    kind = schemas.TRACKS.field(column).type
    # whole numbers are written "256000.0" where pandas met an empty cell in the column
    return pa.float64() if pa.types.is_integer(kind) or pa.types.is_floating(kind) else pa.string()


def _convert(path: str, tracks: pa.Table) -> tuple[pa.Table, list[str]]:
    arrays, warnings = {"dataset": pa.array(["fma"] * len(tracks))}, []
    for column in tracks.column_names:
        kind, values = schemas.TRACKS.field(column).type, tracks[column].combine_chunks()
        try:
            if pa.types.is_list(kind):
                arrays[column] = parse_lists(values, kind.value_type)
            elif pa.types.is_timestamp(kind):
                arrays[column], lost = parse_dates(values)
                warnings += [f"tracks.csv: {column}: no date in a known form, left NULL: {lost}"] if lost else []
            else:
                arrays[column] = values.cast(kind)
        except ValueError as error:  # pyarrow's are ValueErrors too
            raise FeatureStoreError(f"{path}: column {column}: {error}", _FETCH) from None
    if "date_released" in arrays:
        arrays["year"] = pc.year(arrays["date_released"]).cast(pa.int32())
    return pa.table(arrays), warnings


def parse_lists(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Read lists that are written as Python writes them.

    Parameters
    ----------
    values : pyarrow.Array
        Text such as `[21, 12]` or `['lo-fi']`.
    kind : pyarrow.DataType
        Of the elements.

    Returns
    -------
    pyarrow.Array
        Lists of `kind`; NULL stays NULL.

    Raises
    ------
    ValueError
        Some text is no list.

    Examples
    --------
    >>> parse_lists(pa.array(["[21, 12]", None]), pa.int32()).to_pylist()
    [[21, 12], None]
    """
    coded = values.dictionary_encode()
    parsed = pa.array([_literal(text) for text in coded.dictionary.to_pylist()], pa.list_(kind))
    return parsed.take(coded.indices)


def _literal(text: str) -> list[Any]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, list):
        raise ValueError(f"expected a list such as [21, 12], found {text!r}")
    return value


def parse_dates(values: pa.Array) -> tuple[pa.Array, list[str]]:
    """Read dates in any of DATE_FORMATS.

    Parameters
    ----------
    values : pyarrow.Array
        Text.

    Returns
    -------
    dates : pyarrow.Array
        timestamp[s]; NULL where there is no date in a known form.
    lost : list of str
        Up to three texts that became NULL.

    Examples
    --------
    >>> parse_dates(pa.array(["2008-11-26 01:44:45", "soon"]))[1]
    ['soon']
    """
    result = pa.nulls(len(values), pa.timestamp("s"))
    for form in DATE_FORMATS:
        result = pc.coalesce(result, pc.strptime(values, format=form, unit="s", error_is_null=True))
    lost = values.filter(pc.and_(pc.is_null(result), pc.is_valid(values)))
    return result, lost.slice(0, 3).to_pylist()


def _all_ids(source: str) -> set[int]:
    return set(tables.inspect(source).read_columns({"track_id": pa.int64()})["track_id"].to_pylist())
