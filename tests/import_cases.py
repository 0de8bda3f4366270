"""What the tests of imported tables share."""

from __future__ import annotations

from pathlib import Path

from featurestore.store.store import Store


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def read(url: str, name: str) -> list[dict[str, object]]:
    return Store.open(url).read_catalog(f"features_{name}").to_pylist()
