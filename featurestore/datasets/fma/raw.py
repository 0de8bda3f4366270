"""What FMA's `raw_*.csv` files (its web API, as it answered) know beyond `tracks.csv`.

`raw_tracks.csv` adds the disc, the artist's word on explicit lyrics and on instrumental pieces, the pages of track
and licence, and the copyright notice. The other raw files add nothing that a table of tracks can hold.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from featurestore import schemas
from featurestore.datasets import tables
from featurestore.store import files

_COLUMNS = {
    "disc_number": "track_disc_number",
    "explicit": "track_explicit",
    "instrumental": "track_instrumental",
    "url": "track_url",
    "license_url": "license_url",
    "copyright": "track_copyright_p",
}
_NUMERIC = ("disc_number", "instrumental")


def add_columns(tracks: pa.Table, folder: str) -> tuple[pa.Table, list[str]]:
    """Add what raw_tracks.csv knows, where the metadata folder has that file.

    Parameters
    ----------
    tracks : pyarrow.Table
        With a column track_id (int64).
    folder : str
        Folder or URL with FMA's tables.

    Returns
    -------
    tracks : pyarrow.Table
        With one column more for each that the file has; NULL for tracks that it lacks.
    warnings : list of str
        Says that a file of that name is not FMA's.
    """
    path = f"{folder}/raw_tracks.csv"
    fs, place = files.resolve(path)
    if not fs.exists(place):
        return tracks, []
    table = tables.inspect(path)
    present = {name: source for name, source in _COLUMNS.items() if source in table.names}
    if "track_id" not in table.names or not present:
        return tracks, [f"{path}: not FMA's raw_tracks.csv, ignored"]
    types = {source: pa.float64() if name in _NUMERIC else pa.string() for name, source in present.items()}
    rows = table.read_columns({"track_id": pa.int64(), **types})
    row = pc.index_in(tracks["track_id"], rows["track_id"].combine_chunks()).combine_chunks()
    for name, source in present.items():
        values = rows[source].combine_chunks().take(row)
        if name == "instrumental":
            values = pc.not_equal(values, 0)
        tracks = tracks.append_column(name, values.cast(schemas.TRACKS.field(name).type))
    return tracks, []
