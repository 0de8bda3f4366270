"""A sample of FMA that looks like the whole: so many tracks of each genre, official splits in proportion."""

from __future__ import annotations

import hashlib

from featurestore.datasets.fma import errata
from featurestore.datasets.fma import tracks as fma


def choose(metadata: str, *, subset: str, per_genre: int, seed: int) -> list[int]:
    """Choose `per_genre` tracks of each top genre in the subset, or all where a genre has fewer.

    Within a genre the official splits get places by the Sainte-Laguë rule: one place after another goes to the split
    with the smallest (2 * places so far + 1) / size. So a larger `per_genre` keeps the tracks of a smaller one.
    Tracks without a top genre, and clips known to hold no audio, are not chosen.

    Parameters
    ----------
    metadata : str
        Folder with FMA's tables.
    subset : str
        FMA's subset, such as "small".
    per_genre : int
        Tracks of each genre.
    seed : int
        Which tracks are drawn.

    Returns
    -------
    list of int
        Track ids, sorted.

    Raises
    ------
    MissingInput
        There is no FMA metadata in the folder.
    """
    table, _ = fma.read_tracks(f"{fma.metadata_folder(metadata)}/tracks.csv", subset)
    tracks = table.select(["track_id", "genre", "official_split"]).to_pandas().dropna(subset="genre")
    if subset != "full":  # fma_full holds whole tracks, which are sound
        tracks = tracks[~tracks["track_id"].isin(list(errata.expected_failures(tracks["track_id"].tolist())))]
    tracks["draw"] = [hashlib.sha256(f"{seed}:{i}".encode()).hexdigest() for i in tracks["track_id"]]
    tracks = tracks.fillna({"official_split": ""}).sort_values("draw")
    splits = tracks.groupby(["genre", "official_split"])["track_id"]
    tracks["place"] = (2 * splits.cumcount() + 1) / splits.transform("size")
    in_order = tracks.sort_values(["place", "official_split"])
    return sorted(in_order.groupby("genre")["track_id"].head(per_genre).tolist())
