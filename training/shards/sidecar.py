"""`dataset.json`, the sidecar of a set of shards: what is in them, where from, and what their bytes must hash to.

It is written last, so a folder without it holds no data set.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from featurestore.errors import FeatureStoreError, MissingInput, SpecMismatch
from featurestore.spec import Spec
from featurestore.store import files
from training.shards.encoding import Encoding

NAME = "dataset.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
UNFINISHED = "unfinished.json"
FINGERPRINT = "spec_fingerprint"  # the entry by which a sidecar of any version of ours is known
FORMAT_VERSION = 2
KINDS = ("mel", "wave", "features")


class DataMismatch(FeatureStoreError):
    """The shards, their sidecar and the store do not belong together."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Parameters
    ----------
    name : str
        In the data set's folder.
    split : {"training", "validation", "test"}
    records, bytes : int
    sha256 : str
        Of those bytes.
    """

    name: str
    split: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sidecar:
    """Everything a reader of the shards must know.

    Parameters
    ----------
    kind : {"mel", "wave", "features"}
    shape : tuple of int
        Of the longest record, time first: (frames, bands), (samples,) or (columns,).
    dtype : str
    low, high : float
        As in `training.shards.encoding.Encoding`.
    compression : {"none", "gzip"}
    image : int or None
        Side of the square that mel spectrograms were resized to; None keeps them as measured.
    classes : tuple of str
        The genres, sorted; a record's label indexes them.
    counts : mapping
        Split to genre to records.
    tracks : mapping
        Split to tracks.
    artists : int
        Known artists of all records; 0 where no artist is known.
    normalisation : mapping
        {"mean": [...], "std": [...]} of the training split, per band or column (one number for waves).
    columns : tuple of str
        Feature names; empty for mel and wave.
    scheme, subset, feature_set : str or None
    seed : int
    plan : str
        Fingerprint of every choice that decides the bytes.
    store : mapping
        {"url", "content"}: where the data came from; fingerprint of its values, labels and splits.
    spec : Spec
    shards : tuple of Shard
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
    artists: int
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

    @property
    def stored_normalisation(self) -> dict[str, list[float]]:
        """`normalisation` of the numbers on disk: for uint8 in steps."""
        factor, offset = self.encoding.scale
        mean, std = self.normalisation["mean"], self.normalisation["std"]
        return {"mean": [(m - offset) / factor for m in mean], "std": [s / factor for s in std]}

    @property
    def scheme_text(self) -> str:
        """The split scheme for people: an artist split of tracks whose artists are unknown is a split of tracks."""
        return "artist (no artist is known: by track)" if self.scheme == "artist" and not self.artists else self.scheme

    def of_split(self, split: str) -> tuple[Shard, ...]:
        """The shards of a split.

        Parameters
        ----------
        split : {"training", "validation", "test"}

        Returns
        -------
        tuple of Shard
            In order.
        """
        return tuple(s for s in self.shards if s.split == split)

    def records(self, split: str) -> int:
        """How many records a split has, damaged ones included.

        Parameters
        ----------
        split : {"training", "validation", "test"}

        Returns
        -------
        int
        """
        return sum(s.records for s in self.of_split(split))

    def to_json(self) -> bytes:
        """Give the content of the file.

        Returns
        -------
        bytes
            The same for the same content.
        """
        values = dataclasses.asdict(self) | {"spec": self.spec.as_dict(), "format": FORMAT_VERSION}
        values[FINGERPRINT] = self.spec.fingerprint
        return (json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Sidecar:
        """Read what `to_json` wrote.

        Parameters
        ----------
        data : bytes
        name : str
            Where they come from, for messages.

        Returns
        -------
        Sidecar

        Raises
        ------
        DataMismatch
            Where the bytes are something else, or were changed by hand.
        """
        try:
            values = json.loads(data)
            found = values.pop("format", None)
            if found != FORMAT_VERSION:
                raise DataMismatch(
                    f"{name}: expected format {FORMAT_VERSION}, found {found}", "Export again with this version."
                )
            fingerprint = values.pop(FINGERPRINT)
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
        """The sidecar of a data set.

        Parameters
        ----------
        url : str
            The data set's folder, a path or an fsspec URL.

        Returns
        -------
        Sidecar

        Raises
        ------
        MissingInput
            Where there is none, or an export was interrupted.
        DataMismatch
            Where it cannot be read.
        """
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


def require_spec(sidecar: Sidecar, spec: Spec, *, here: str, there: str) -> None:
    """Check that a data set was made with a spec.

    Parameters
    ----------
    sidecar : Sidecar
    spec : Spec
        Expected.
    here, there : str
        What has `spec`, and what has the sidecar's, for the message.

    Raises
    ------
    DataMismatch
        Naming the numbers that differ.
    """
    try:
        spec.require(sidecar.spec, here=here, there=there)
    except SpecMismatch as error:
        raise DataMismatch(error.message, "Export again with `python -m training.export_tfrecords`.") from None
