"""What the driver hands to a worker, and what comes back: names and counts, never data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

MISSING = -1  # the size of a file that is not there


@dataclasses.dataclass(frozen=True)
class Item:
    """One audio file to measure. known_hash: leave it alone if its content is this; "" measures it anyway."""

    track_id: int
    path: str
    source: str
    size: int
    mtime_ns: int | None
    known_hash: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """A batch to make. blamed: files that took a process down, {track_id: (kind, message)}; they are not opened."""

    store: str
    batch: str
    token: str
    items: tuple[Item, ...]
    timeout_s: float
    blamed: Mapping[int, tuple[str, str]] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `from_json` reads it back."""
        return {**dataclasses.asdict(self), "blamed": [[t, *b] for t, b in self.blamed.items()]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Task:
        """Read what `to_json` wrote."""
        blamed = {t: (kind, message) for t, kind, message in values["blamed"]}
        return cls(**{**values, "items": tuple(Item(**i) for i in values["items"]), "blamed": blamed})


@dataclasses.dataclass(frozen=True)
class Result:
    """What a batch came to: counts, and (track_id, hash, mtime) of files whose content was the recorded one."""

    tracks: int = 0
    excerpts: int = 0
    failed: int = 0
    unchanged: tuple[tuple[int, str, int | None], ...] = ()

    @property
    def looked_at(self) -> int:
        """Files that the batch was given."""
        return self.tracks + self.failed + len(self.unchanged)

    def __add__(self, other: Result) -> Result:
        return Result(
            self.tracks + other.tracks,
            self.excerpts + other.excerpts,
            self.failed + other.failed,
            (*self.unchanged, *other.unchanged),
        )
