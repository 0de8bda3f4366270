"""Which files are the store's own: nothing else is ever removed or written over.

A store's folder is absent or empty before the first build, and holds `store.json` from then on. Its subfolders are real
folders, not links. Of what lies in them, only files of these names are the store's: `NNNNNN-NNNNN.parquet` in the
folders of measured tables, `<name>.parquet` in `catalog`, `<fingerprint>-<digest>.duckdb` in `derived`, and temporary
names that end in `files.TEMPORARY`.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any

from featurestore import schemas
from featurestore.errors import UsageError
from featurestore.store import files
from featurestore.store.manifest import COPY, MANIFEST

CATALOG = "catalog"
DERIVED = "derived"  # databases that the warehouse makes from a snapshot; each may be deleted at any time
LOCK = "build.lock"
FOLDERS = (*schemas.MEASURED, CATALOG, DERIVED)
BATCH = re.compile(r"[0-9]{6}-[0-9]{5}")
DERIVED_FILE = re.compile(r"[0-9a-f]{32}-[0-9a-f]+\.duckdb")


def require_own(fs: Any, root: str) -> None:
    """Refuse a place that a store must not be written to.

    Parameters
    ----------
    fs, root
        The store's folder, as `files.resolve` gives it.

    Raises
    ------
    UsageError
        If there is something at the place and it is not a store, or a folder of the store is a link.
    """
    found = _entries(fs, root)
    strangers = sorted(n for n in found if n not in (MANIFEST, COPY, LOCK) and not files.is_temporary(n))
    if strangers and not found & {MANIFEST, COPY}:
        raise UsageError(
            f"{root} is not a feature store and not empty: it holds {strangers[0]!r}, and no {MANIFEST}",
            "Name a new or an empty folder with --store: nobody else's files may lie in a store.",
        )
    for folder in FOLDERS if files.is_local(fs) else ():
        path = os.path.join(root, folder)
        if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
            raise UsageError(
                f"{path} is not a folder but a {'link' if os.path.islink(path) else 'file'}: nothing was written",
                "Put the folder itself there. A store may be moved as a whole, and the whole may be a link.",
            )


def _entries(fs: Any, root: str) -> set[str]:
    """Names of everything in the folder `root`."""
    try:
        if files.is_local(fs):
            return set(os.listdir(root))
        return {posixpath.basename(i["name"].rstrip("/")) for i in fs.ls(root, detail=True)}
    except FileNotFoundError:
        return set()
    except NotADirectoryError:
        raise UsageError(f"{root} is a file, expected a folder", "Name another place with --store.") from None


def refuse_inside(place: str | None, option: str, store: str | None = None) -> None:
    """Refuse a place of input or output that lies inside a store, links followed.

    Parameters
    ----------
    place : str or None
        Path or URL that the user named; None is never refused.
    option : str
        What it was named with (`--audio`), for the message.
    store : str, optional
        A store that need not exist yet. Whether given or not, a local place inside any existing store is refused.

    Raises
    ------
    UsageError
        If the place is the store, or lies in it. A store below the folder of the audio is fine.
    """
    if place is None:
        return
    above = _store_above(place)
    if store is not None and _is_inside(place, store):
        above = store
    if above is not None:
        raise UsageError(
            f"{option} {place} lies inside the store {above}",
            "Name a place elsewhere: only the store's own commands write there, and nobody else's files lie there.",
        )


def _is_inside(place: str, store: str) -> bool:
    (fs, path), (store_fs, root) = files.resolve(place), files.resolve(store)
    if files.is_local(fs):
        path, root = os.path.realpath(path), os.path.realpath(root)
    return type(fs) is type(store_fs) and f"{path}/".startswith(f"{root.rstrip('/')}/")


def _store_above(place: str) -> str | None:
    """The folder of the existing local store that `place` lies in; None where there is none."""
    fs, path = files.resolve(place)
    if not files.is_local(fs):
        return None
    path = os.path.realpath(path)
    while path != os.path.dirname(path):
        if os.path.isfile(os.path.join(path, MANIFEST)) and os.path.isdir(os.path.join(path, schemas.MEASURED[-1])):
            return path
        path = os.path.dirname(path)
    return None
