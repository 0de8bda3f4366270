"""Every Arrow schema of the store, in one place. Writers, views, exporters and the docs derive from here.

Each field carries its description (and unit) in the Arrow metadata, from where it reaches `DESCRIBE` and
`COMMENT ON COLUMN`. `nullable=False` is a promise that the writer checks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import pyarrow as pa

from featurestore.registry import columns
from featurestore.spec import Spec

FORMAT_VERSION = 2
DEFAULT_STORE = "data/store"  # where commands look unless --store or $FEATURESTORE says otherwise

SCHEMES = ("official", "artist", "random")
SPLITS = ("training", "validation", "test")
SUBSETS = ("small", "medium", "large", "full")  # each contains the ones before it
FAILURE_STAGES = ("open", "decode", "extract")
FAILURE_KINDS = (
    "missing",  # the file is not there
    "unreadable",  # the file is there but cannot be opened (permissions, I/O error)
    "empty",  # zero bytes
    "not_audio",  # no decoder recognises it
    "truncated",  # the header is there, (almost) no audio follows
    "no_audio",  # a container without an audio stream, or with no samples
    "too_short",  # fewer samples than one value needs
    "unsupported",  # audio, but in a form no decoder here reads
    "non_finite",  # NaN or infinite samples
    "timeout",  # the decoder did not finish in time
    "crash",  # the decoder took its process down
    "memory",  # the worker ran out of memory
)

MEASURED = ("features", "mel", "wave", "failures", "excerpts")  # written in this order: excerpts commits the batch


def describe(field: pa.Field) -> str:
    """What a column holds, as its schema says.

    Parameters
    ----------
    field : pa.Field
        A field of one of these schemas, or of an imported table.

    Returns
    -------
    str
        The description, with the unit in brackets where there is one; "" where the field has no description.

    Examples
    --------
    >>> describe(TRACKS.field("year"))
    'year of release [year]'
    """
    metadata = field.metadata or {}
    text = metadata.get(b"description", b"").decode()
    unit = metadata.get(b"unit", b"").decode()
    return f"{text} [{unit}]" if unit else text


def _f(name: str, kind: pa.DataType, text: str, *, unit: str = "", null: bool = True) -> pa.Field:
    metadata = {"description": text} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=null, metadata=metadata)


_KEY = (
    _f("track_id", pa.int64(), "identity of the track; FMA's own id for FMA", null=False),
    _f("excerpt", pa.int16(), "number of the excerpt within the track, from 0", null=False),
)
# "element", as Parquet spells it, and milliseconds below, as it keeps them: what is read is what was written
_STRINGS = pa.list_(pa.field("element", pa.string()))
_INTS = pa.list_(pa.field("element", pa.int32()))

TRACKS = pa.schema(
    [
        _f("track_id", pa.int64(), "identity of the track; FMA's own id for FMA", null=False),
        _f("dataset", pa.string(), "collection the track came from (fma, folders, tags, demo, ...)", null=False),
        _f("path", pa.string(), "audio file, relative to the collection's audio folder; NULL for labels only"),
        _f("title", pa.string(), "title of the track"),
        _f("artist", pa.string(), "artist name; NULL where unknown"),
        _f("artist_id", pa.int64(), "identity of the artist; NULL where unknown; splits are grouped by it"),
        _f("album", pa.string(), "album title"),
        _f("album_id", pa.int64(), "identity of the album"),
        _f("genre", pa.string(), "top-level genre, the label that models learn; NULL where unlabelled"),
        _f("genre_ids", _INTS, "ids of all genres given by the artist (genres.genre_id)"),
        _f("genre_ids_all", _INTS, "genre_ids and all the genres above them"),
        _f("subset", pa.string(), "smallest FMA subset with the track: small < medium < large < full"),
        _f("license", pa.string(), "licence of the track"),
        _f("tags", _STRINGS, "free tags"),
        _f("year", pa.int32(), "year of release", unit="year"),
        _f("date_created", pa.timestamp("ms"), "when the track was added to its source"),
        _f("date_recorded", pa.timestamp("ms"), "when the track was recorded"),
        _f("date_released", pa.timestamp("ms"), "when the album was released"),
        _f("composer", pa.string(), "composer"),
        _f("lyricist", pa.string(), "lyricist"),
        _f("publisher", pa.string(), "publisher"),
        _f("information", pa.string(), "free text about the track"),
        _f("language_code", pa.string(), "language of the lyrics, ISO 639-1"),
        _f("number", pa.int32(), "position on the album"),
        _f("bit_rate", pa.int32(), "bit rate that the source claims", unit="bit/s"),
        _f("claimed_duration_s", pa.float64(), "duration that the source claims; never trusted", unit="s"),
        _f("listens", pa.int64(), "plays on the source's site"),
        _f("favorites", pa.int64(), "favourites on the source's site"),
        _f("interest", pa.int64(), "interest on the source's site"),
        _f("comments", pa.int64(), "comments on the source's site"),
        _f("official_split", pa.string(), "split that the data set's publisher drew; NULL where none"),
        _f("album_type", pa.string(), "kind of album"),
        _f("album_date_created", pa.timestamp("ms"), "when the album was added to its source"),
        _f("album_engineer", pa.string(), "engineer of the album"),
        _f("album_producer", pa.string(), "producer of the album"),
        _f("album_information", pa.string(), "free text about the album"),
        _f("album_tags", _STRINGS, "free tags of the album"),
        _f("album_tracks", pa.int32(), "number of tracks on the album"),
        _f("album_listens", pa.int64(), "plays of the album"),
        _f("album_favorites", pa.int64(), "favourites of the album"),
        _f("album_comments", pa.int64(), "comments on the album"),
        _f("artist_bio", pa.string(), "biography of the artist"),
        _f("artist_location", pa.string(), "where the artist lives"),
        _f("artist_latitude", pa.float64(), "latitude of the artist", unit="degrees"),
        _f("artist_longitude", pa.float64(), "longitude of the artist", unit="degrees"),
        _f("artist_members", pa.string(), "members of the artist's band"),
        _f("artist_website", pa.string(), "web site of the artist"),
        _f("artist_wikipedia_page", pa.string(), "Wikipedia page of the artist"),
        _f("artist_associated_labels", pa.string(), "labels associated with the artist"),
        _f("artist_related_projects", pa.string(), "projects related to the artist"),
        _f("artist_active_year_begin", pa.timestamp("ms"), "start of the artist's activity"),
        _f("artist_active_year_end", pa.timestamp("ms"), "end of the artist's activity"),
        _f("artist_date_created", pa.timestamp("ms"), "when the artist was added to the source"),
        _f("artist_tags", _STRINGS, "free tags of the artist"),
        _f("artist_favorites", pa.int64(), "favourites of the artist"),
        _f("artist_comments", pa.int64(), "comments on the artist"),
        _f("disc_number", pa.int32(), "disc of the album"),
        _f("explicit", pa.string(), "whether the lyrics are explicit, as the artist said"),
        _f("instrumental", pa.bool_(), "whether the artist called the track instrumental"),
        _f("url", pa.string(), "page of the track at its source"),
        _f("license_url", pa.string(), "text of the licence"),
        _f("copyright", pa.string(), "copyright notice of the recording"),
    ]
)

GENRES = pa.schema(
    [
        _f("genre_id", pa.int32(), "identity of the genre", null=False),
        _f("title", pa.string(), "name of the genre", null=False),
        _f("parent_id", pa.int32(), "genre above this one; NULL for a top-level genre"),
        _f("top_level_id", pa.int32(), "top-level genre that this one belongs to", null=False),
    ]
)

SPLIT_ROWS = pa.schema(
    [
        _f("track_id", pa.int64(), "identity of the track", null=False),
        _f("scheme", pa.string(), "how the split was drawn: official, artist or random", null=False),
        _f("split", pa.string(), "training, validation or test", null=False),
    ]
)

DATASETS = pa.schema(
    [
        _f("dataset", pa.string(), "name of the collection", null=False),
        _f("audio", pa.string(), "folder or URL that tracks.path is relative to; NULL for labels only"),
        _f("metadata", pa.string(), "folder that the labels were read from"),
        _f("n_tracks", pa.int64(), "tracks in the catalog", null=False),
        _f("updated_at", pa.timestamp("us", "UTC"), "when the catalog was last written", null=False),
    ]
)

CATALOG = {"tracks": TRACKS, "genres": GENRES, "splits": SPLIT_ROWS, "datasets": DATASETS}

EXCERPTS = pa.schema(
    [
        *_KEY,
        _f("batch", pa.string(), "batch that committed the row; the newest batch of a track wins", null=False),
        _f("spec", pa.string(), "fingerprint of the spec the row was measured with", null=False),
        _f("path", pa.string(), "audio file, relative to the collection's audio folder", null=False),
        _f("source_bytes", pa.int64(), "size of the audio file", unit="bytes", null=False),
        _f("source_mtime_ns", pa.int64(), "modification time of the audio file (a hint, never proof)", unit="ns"),
        _f("source_hash", pa.string(), "BLAKE2b-128 of the file's bytes, hexadecimal", null=False),
        _f("start_s", pa.float64(), "where the excerpt starts in the track", unit="s", null=False),
        _f("duration_s", pa.float64(), "measured length of the excerpt", unit="s", null=False),
        _f("short", pa.bool_(), "the file decoded to less than the excerpt asked for", null=False),
        _f("native_rate", pa.int32(), "sample rate of the file", unit="Hz", null=False),
        _f("channels", pa.int16(), "channels of the file", null=False),
        _f("decoder", pa.string(), "decoder that read the file", null=False),
        _f("decoder_version", pa.string(), "version of that decoder", null=False),
        _f("libraries", pa.string(), "versions of the libraries behind the values", null=False),
        _f("peak", pa.float32(), "largest absolute sample of the mono excerpt", unit="full scale", null=False),
        _f("rms", pa.float32(), "root-mean-square level of the mono excerpt", unit="full scale", null=False),
        _f("clipped_share", pa.float32(), "share of samples at or above full scale, 0 to 1", null=False),
        _f("silence_share", pa.float32(), "share of samples below -60 dB full scale, 0 to 1", null=False),
        _f("extracted_at", pa.timestamp("us", "UTC"), "when the excerpt was measured", null=False),
    ]
)

MEL = pa.schema(
    [
        *_KEY,
        _f("n_mels", pa.int16(), "mel bands (rows)", null=False),
        _f("n_frames", pa.int32(), "frames (columns)", null=False),
        _f("mel", pa.binary(), "mel spectrogram, band-major; mel_db(mel) gives the numbers", unit="dB", null=False),
    ]
)

WAVE = pa.schema(
    [
        *_KEY,
        _f("sample_rate", pa.int32(), "sample rate of the window", unit="Hz", null=False),
        _f("n_samples", pa.int32(), "samples in the window", null=False),
        _f("scale", pa.float32(), "multiply the integers by this to get full-scale samples", null=False),
        _f("wave", pa.binary(), "central window of the mono waveform, little-endian int16", null=False),
    ]
)

FAILURES = pa.schema(
    [
        _f("track_id", pa.int64(), "identity of the track", null=False),
        _f("path", pa.string(), "audio file, relative to the collection's audio folder", null=False),
        _f("batch", pa.string(), "batch that met the failure", null=False),
        _f("spec", pa.string(), "fingerprint of the spec in force", null=False),
        _f("source_bytes", pa.int64(), "size of the file; -1 where it could not be read", unit="bytes", null=False),
        _f("source_mtime_ns", pa.int64(), "modification time of the file (a hint, never proof)", unit="ns"),
        _f("source_hash", pa.string(), 'BLAKE2b-128 of the file\'s bytes; "" where it could not be read', null=False),
        _f("stage", pa.string(), "open, decode or extract", null=False),
        _f("kind", pa.string(), "what went wrong, one of a fixed list", null=False),
        _f("message", pa.string(), "what was expected and what was found", null=False),
        _f("failed_at", pa.timestamp("us", "UTC"), "when", null=False),
    ]
)


@functools.lru_cache(maxsize=32)
def features_schema(groups: tuple[str, ...]) -> pa.Schema:
    """Schema of the `features` table: the key, then one float32 for each registered column.

    Parameters
    ----------
    groups : tuple of str
        Keys of `registry.GROUPS`.

    Returns
    -------
    pa.Schema
    """
    fields = [_f(c.name, pa.float32(), c.description, unit=c.unit, null=False) for c in columns(groups)]
    return pa.schema([*_KEY, *fields])


def measured_schema(table: str, spec: Spec) -> pa.Schema:
    """Schema of a measured table under a spec.

    Parameters
    ----------
    table : str
        One of `MEASURED`.
    spec : Spec
        Its groups decide on the columns of `features`.

    Returns
    -------
    pa.Schema

    Examples
    --------
    >>> measured_schema("features", Spec(groups=("fma",))).names[:3]
    ['track_id', 'excerpt', 'chroma_stft_mean_01']
    """
    if table == "features":
        return features_schema(spec.groups)
    return {"mel": MEL, "wave": WAVE, "failures": FAILURES, "excerpts": EXCERPTS}[table]


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast a table to a schema; columns it lacks become NULL.

    Parameters
    ----------
    table : pa.Table
        Its columns in any order.
    schema : pa.Schema
        What the result is of.

    Returns
    -------
    pa.Table

    Raises
    ------
    ValueError
        If a column that must not be NULL is, or the table has columns that the schema has not: a silent loss would be
        worse than an error.

    Examples
    --------
    >>> conform(pa.table({"track_id": [1], "dataset": ["demo"]}), TRACKS)["title"].null_count
    1
    """
    given = dict(zip(table.column_names, table.columns, strict=True))
    unknown = set(given) - set(schema.names)
    if unknown:
        raise ValueError(f"columns not in the schema: {', '.join(sorted(unknown))}")
    arrays = []
    for field in schema:
        if field.name in given:
            array = given[field.name]
            array = array if array.type == field.type else array.cast(field.type)
        else:
            array = pa.chunked_array([pa.nulls(len(table), field.type)])
        if not field.nullable and array.null_count:
            raise ValueError(f"column {field.name} must not be NULL, found {array.null_count} NULL values")
        arrays.append(array)
    return pa.table(arrays, schema=schema)


def from_rows(rows: Iterable[dict[str, object]], schema: pa.Schema) -> pa.Table:
    """Make a table of a schema from rows.

    Parameters
    ----------
    rows : iterable of dict
        Values by the name of their column; what a row lacks is NULL.
    schema : pa.Schema
        The schema of the result.

    Returns
    -------
    pa.Table

    Raises
    ------
    ValueError
        If a column that must not be NULL is.

    Examples
    --------
    >>> from_rows([{"genre_id": 1, "title": "Rock", "top_level_id": 1}], GENRES)["parent_id"].to_pylist()
    [None]
    """
    return conform(pa.Table.from_pylist(list(rows), schema=schema), schema)
