"""`store.json`, which makes a folder a store: its format, its spec, its golden values.

It is a sealed JSON object: the entry `seal` is the SHA-256 of the others. A copy stands beside it, from which
`verify --repair` takes it back. The footer of a batch's `excerpts` holds a sealed object too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from featurestore import schemas
from featurestore.errors import SpecMismatch, StoreDamaged
from featurestore.spec import Spec

MANIFEST = "store.json"
COPY = "store.copy.json"
SEAL = "seal"


def new(spec: Spec) -> dict[str, Any]:
    """The manifest of an empty store.

    Parameters
    ----------
    spec : Spec
        The numbers that the store will be measured with.

    Returns
    -------
    dict
        Not sealed yet.
    """
    return {"format": schemas.FORMAT_VERSION, "spec": spec.as_dict(), "fingerprint": spec.fingerprint}


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Seal values, so that a change is found.

    Parameters
    ----------
    values : mapping
        Anything that JSON can hold; an old seal among it is replaced.

    Returns
    -------
    dict
        The values and their seal.

    Examples
    --------
    >>> is_sealed(seal({"a": 1})), is_sealed({**seal({"a": 1}), "a": 2})
    (True, False)
    """
    bare = {k: v for k, v in values.items() if k != SEAL}
    return {**bare, SEAL: _digest(bare)}


def is_sealed(values: Mapping[str, Any]) -> bool:
    """Whether values are those that were sealed.

    Parameters
    ----------
    values : mapping
        With a seal or without.
    """
    return values.get(SEAL) == _digest({k: v for k, v in values.items() if k != SEAL})


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def to_bytes(values: Mapping[str, Any]) -> bytes:
    """The content of the file for these values.

    Parameters
    ----------
    values : mapping
        With a seal or without.

    Returns
    -------
    bytes
        JSON, sealed, ending in a line break.
    """
    return (json.dumps(seal(values), indent=1) + "\n").encode()


def parse(path: str, data: bytes) -> dict[str, Any]:
    """The values of a manifest.

    Parameters
    ----------
    path : str
        The file, for messages.
    data : bytes
        Its content.

    Returns
    -------
    dict
        What `seal` made, with a spec in it.

    Raises
    ------
    StoreDamaged
        If it is not JSON, or its seal is broken.
    SpecMismatch
        If it is of another format.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict) or values.get("format") != schemas.FORMAT_VERSION:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise SpecMismatch(
            f"{path}: expected store format {schemas.FORMAT_VERSION}, found {found}",
            "Use the version of this toolkit that made it, or build a new store.",
        )
    if not is_sealed(values) or data != to_bytes(values):
        raise StoreDamaged(f"{path}: checksum: its values are not those that were sealed")
    if not isinstance(values.get("spec"), dict):
        raise StoreDamaged(f"{path}: no spec in it")
    return values
