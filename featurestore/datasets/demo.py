"""`demo`: 28 short pieces of generated music (MIT licence) that the PyPI package immich-memories-music carries.

A small demonstration set in five moods, read from where pip put it. The genre column holds the mood; there is no
artist. It shows that everything works; results about music need real music.
"""

from __future__ import annotations

import importlib.util
import os

from featurestore.datasets import paths
from featurestore.datasets.collection import Collection, from_labels
from featurestore.datasets.scan import scan
from featurestore.errors import MissingInput

PACKAGE = "immich_memories_music"


def load() -> Collection:
    """Catalog the demo tracks.

    Returns
    -------
    Collection
        28 tracks; the genre is the mood.

    Raises
    ------
    MissingInput
        The package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingInput(
            "the demo collection is not installed: expected the package immich-memories-music",
            "Install it with: pip install 'music-feature-store[demo]'",
        )
    audio = os.path.join(next(iter(spec.submodule_search_locations)), "tracks")
    found = scan(audio)
    labels = [
        {
            "path": path,
            "title": paths.stem(path).replace("_", " "),
            "genre": path.partition("/")[0].capitalize(),
            "license": "MIT",
        }
        for path in found.paths
    ]
    return from_labels("demo", labels, audio=audio, warnings=found.warnings)
