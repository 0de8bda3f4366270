"""`dataset.json`, the sidecar of a set of shards: what is in them, where from, and what their bytes must hash to.

It is written last, so a folder without it holds no data set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from featurestore.errors import FeatureStoreError, MissingInput, SpecMismatch
from featurestore.spec import Spec
from featurestore.store import files
from featurestore.store.store import Store
from training.shards.encoding import Encoding

NAME = "dataset.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
UNFINISHED = "unfinished.json"
FORMAT_VERSION = 1
KINDS = ("mel", "wave", "features")


class DataMismatch(FeatureStoreError):
    """The shards, their sidecar and the store do not belong together."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name, how many records and bytes it has, and the SHA-256 of those bytes."""

    name: str
    split: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sidecar:
    """Everything a reader of the shards must know.

    kind           mel, wave or features
    shape          of the longest record, time first: (frames, bands), (samples,) or (columns,)
    dtype, low, high   see training.shards.encoding.Encoding
    compression    "none" or "gzip"
    image          side of the square that mel spectrograms were resized to; None keeps them as measured
    classes        the genres, sorted; a record's label indexes them
    counts         split -> genre -> records
    tracks         split -> tracks
    normalisation  {"mean": [...], "std": [...]} of the training split, per band or column (one number for waves)
    columns        feature names (features only)
    plan           fingerprint of every choice that decides the bytes
    store          {"url", "content"}: where the data came from, fingerprint of its rows and labels
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    compression: str
    image: int | None
    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    tracks: Mapping[str, int]
    normalisation: Mapping[str, list[float]]
    columns: tuple[str, ...]
    scheme: str
    subset: str | None
    feature_set: str | None
    seed: int
    plan: str
    store: Mapping[str, str]
    spec: Spec
    shards: tuple[Shard, ...]

    @property
    def encoding(self) -> Encoding:
        """How a record's bytes become numbers."""
        return Encoding(self.dtype, self.low, self.high)

    def of_split(self, split: str) -> tuple[Shard, ...]:
        """The shards of a split, in order."""
        return tuple(s for s in self.shards if s.split == split)

    def records(self, split: str) -> int:
        """Records of a split."""
        return sum(s.records for s in self.of_split(split))

    def to_json(self) -> bytes:
        """The file's bytes: the same content always gives the same bytes."""
        values = dataclasses.asdict(self) | {"spec": self.spec.as_dict(), "format": FORMAT_VERSION}
        values["spec_fingerprint"] = self.spec.fingerprint
        return (json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Sidecar:
        """Read what `to_json` wrote. Raises DataMismatch where it is something else."""
        try:
            values = json.loads(data)
            found = values.pop("format", None)
            if found != FORMAT_VERSION:
                raise DataMismatch(
                    f"{name}: expected format {FORMAT_VERSION}, found {found}", "Export again with this version."
                )
            fingerprint = values.pop("spec_fingerprint")
            spec = _spec(values.pop("spec"), name)
            if spec.fingerprint != fingerprint:
                raise DataMismatch(f"{name}: its spec was changed by hand", "Export again.")
            shards = tuple(Shard(**s) for s in values.pop("shards"))
            lists: dict[str, Any] = {k: tuple(values.pop(k)) for k in ("shape", "classes", "columns")}
            sidecar = cls(**values, **lists, spec=spec, shards=shards)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataMismatch(f"{name}: not a data set's sidecar ({error})", "Export again.") from None
        # these become file names: one that leads elsewhere must never be opened
        for part in (sidecar.kind, sidecar.plan, *(s.name for s in shards)):
            if not isinstance(part, str) or not _FILE_NAME.fullmatch(part):
                raise DataMismatch(f"{name}: {part!r} is no plain file name", "Get the data set from its maker again.")
        return sidecar

    @classmethod
    def read(cls, url: str) -> Sidecar:
        """The sidecar of the data set in the folder `url`. Raises MissingInput or DataMismatch."""
        fs, root = files.resolve(url)
        path = posixpath.join(root, NAME)
        try:
            data = fs.cat_file(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            kind = posixpath.basename(root).split("-")[0]
            option = f" --kind {kind}" if kind in KINDS[1:] else ""
            if fs.exists(posixpath.join(root, UNFINISHED)):
                raise MissingInput(
                    f"{url}: the export was interrupted",
                    f"Run `python -m training.export_tfrecords{option}` again: it goes on where it stopped.",
                ) from None
            raise MissingInput(
                f"{url}: no TFRecord data set there (expected {NAME})",
                f"Make it with `python -m training.export_tfrecords{option}`.",
            ) from None
        return cls.from_json(data, path)


def _spec(values: Any, name: str) -> Spec:
    try:
        return Spec.from_dict(values)
    except FeatureStoreError as error:
        raise DataMismatch(f"{name}: {error.message}", "Export again with this version.") from None


def content_fingerprint(store: Store, examples: pa.Table) -> str:
    """16 hexadecimal digits over the examples: key, genre, split, artist and the hash of the audio they come from.

    Does not depend on how the store is cut into batches, so compacting keeps it. `examples` has the columns track_id,
    excerpt, genre, split and artist, in any order.
    """
    rows = store.read("excerpts", ["track_id", "excerpt", "batch", "source_hash"]).sort_by("batch")
    keys = zip(rows["track_id"].to_pylist(), rows["excerpt"].to_pylist(), strict=True)
    sources = dict(zip(keys, rows["source_hash"].to_pylist(), strict=True))  # the newest batch is last, and stays
    columns = (examples[c].to_pylist() for c in ("track_id", "excerpt", "genre", "split", "artist"))
    lines = sorted([*row, sources.get(row[:2], "")] for row in zip(*columns, strict=True))
    text = json.dumps([store.spec.fingerprint, lines], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def require_spec(sidecar: Sidecar, spec: Spec, *, here: str, there: str) -> None:
    """Raise SpecMismatch, naming the numbers, unless the data set was made with `spec`."""
    try:
        spec.require(sidecar.spec, here=here, there=there)
    except SpecMismatch as error:
        raise DataMismatch(error.message, "Export again with `python -m training.export_tfrecords`.") from None
