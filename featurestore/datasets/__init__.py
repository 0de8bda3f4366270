"""Who the tracks are: one loader per kind of collection, each returning a `Collection`. Nothing is decoded here.

`load` is the one entry. A track's file is `audio_path(collection.audio, path)`: the catalog's paths are always text,
also where a file name is not (see `paths`), so nobody joins them by hand.
"""

from __future__ import annotations

import os

from featurestore.datasets.collection import Collection
from featurestore.datasets.paths import AUDIO_SUFFIXES, audio_path, decode_name, encode_name, is_url, track_id
from featurestore.errors import UsageError
from featurestore.schemas import SUBSETS

__all__ = [
    "AUDIO_SUFFIXES",
    "DATASETS",
    "Collection",
    "audio_path",
    "decode_name",
    "encode_name",
    "load",
    "track_id",
]

DATASETS = ("demo", "folders", "tags", "fma")


def load(
    dataset: str, *, audio: str | None = None, metadata: str | None = None, subset: str | None = None
) -> Collection:
    """Read the labels of a collection.

    Parameters
    ----------
    dataset : str
        demo (the package's own tracks; takes no folder), folders (audio files in one folder per genre; GTZAN's layout
        and names too), tags (audio files with their own tags) or fma (its `tracks.csv` and `genres.csv`).
    audio : str, optional
        Folder or URL with the music: needed for folders and tags, optional for fma.
    metadata : str, optional
        fma only: folder with its tables.
    subset : str, optional
        fma only: small, medium, large or full; each contains the ones before it.

    Returns
    -------
    Collection
        Its audio folder is an absolute path, or a URL.

    Examples
    --------
    >>> load("demo").tracks.num_rows  # doctest: +SKIP
    28

    Raises
    ------
    UsageError
        Unknown data set, or a wrong combination of options.
    MissingInput
        A folder or file is not there or is not what it should be.
    """
    if dataset not in DATASETS:
        raise UsageError(f"unknown dataset {dataset!r}; known are {', '.join(DATASETS)}", "Name one with --dataset.")
    if subset is not None and dataset != "fma":
        raise UsageError(f"--subset is for the dataset fma, found it with {dataset}", "Leave it out.")
    if subset is not None and subset not in SUBSETS:
        raise UsageError(f"unknown subset {subset!r}; known are {', '.join(SUBSETS)}", "Name one with --subset.")
    if audio is not None and not is_url(audio):
        audio = os.path.abspath(os.path.expanduser(audio))  # the catalog outlives the current folder
    if dataset == "demo":
        from featurestore.datasets import demo

        _refuse(dataset, audio=audio, metadata=metadata)
        return demo.load()
    if dataset == "fma":
        from featurestore.datasets.fma import tracks as fma

        if metadata is None:
            raise UsageError(
                "the dataset fma needs --metadata DIR, the folder with tracks.csv and genres.csv",
                "Get it with `python -m featurestore fetch fma_metadata`.",
            )
        return fma.load(metadata, audio=audio, subset=subset)
    from featurestore.datasets import folders, tags

    _refuse(dataset, metadata=metadata)
    if audio is None:
        raise UsageError(f"the dataset {dataset} needs --audio DIR, the folder with the music", "Add --audio DIR.")
    return folders.load(audio) if dataset == "folders" else tags.load(audio)


def _refuse(dataset: str, **options: str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"the dataset {dataset} takes no --{name}, found {value}", "Leave it out.")
