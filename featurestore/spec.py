"""The spec: every number that changes a value in the store, in one frozen dataclass.

Its fingerprint names what a store holds. A store built with one spec refuses rows made with another and says
which number differs. Add a field here when, and only when, it changes a stored value.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from featurestore import registry
from featurestore.errors import SpecMismatch, UsageError

DEFAULT_GROUPS = ("fma", "rhythm", "timbre_dynamics")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """The numbers behind every measured row. Defaults are librosa's own, so one line of librosa checks a value.

    Parameters
    ----------
    sample_rate : int
        Hz, after the mono mean of the channels and soxr HQ resampling.
    n_fft : int
        Samples per STFT frame (periodic Hann window, centred, zero-padded).
    hop_length : int
        Samples between frames.
    n_mels : int
        Slaney mel bands from 0 Hz to sample_rate / 2.
    excerpts : int
        Excerpts per track, evenly spaced; 1 is the central one.
    excerpt_seconds : float
        Length of an excerpt in seconds.
    groups : tuple of str
        Feature groups that are measured (see `registry.GROUPS`).
    wave_seconds : float
        Length in seconds of the central waveform window kept for raw-audio models; 0 keeps none.
    extractor : int
        Version of the feature code; raised when a value would change.

    Raises
    ------
    UsageError
        If a number is out of its range, or a group is unknown.

    Examples
    --------
    >>> Spec(excerpt_seconds=10).n_frames(220500)
    431
    """

    sample_rate: int = 22050
    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 128
    excerpts: int = 1
    excerpt_seconds: float = 30.0
    groups: tuple[str, ...] = DEFAULT_GROUPS
    wave_seconds: float = 3.0
    extractor: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("sample_rate", 4000, 384000),
            ("n_fft", 64, 65536),
            ("hop_length", 16, 65536),
            ("n_mels", 8, 1024),
            ("excerpts", 1, 1000),
            ("excerpt_seconds", 0.1, 3600.0),
            ("wave_seconds", 0.0, 3600.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(
                    f"spec: {name} must be between {low} and {high}, found {value}",
                    "Run `python -m featurestore build --help` for the options and their defaults.",
                )
        if self.n_fft % 2:
            raise UsageError(f"spec: n_fft must be even, found {self.n_fft}", "Try 2048.")
        if self.hop_length > self.n_fft:
            raise UsageError(
                f"spec: hop_length must not exceed n_fft ({self.n_fft}), found {self.hop_length}",
                "Samples between frames would never be measured; try n_fft // 4.",
            )
        unknown = [g for g in self.groups if g not in registry.GROUPS]
        if unknown or "fma" not in self.groups:
            raise UsageError(
                f"spec: feature groups must contain 'fma' and come from {', '.join(registry.GROUPS)}; "
                f"found {', '.join(self.groups) or 'none'}",
                "Name them as --groups fma,rhythm.",
            )
        # one order, so that the same choice always has the same fingerprint
        object.__setattr__(self, "groups", tuple(g for g in registry.GROUPS if g in self.groups))
        object.__setattr__(self, "excerpt_seconds", float(self.excerpt_seconds))
        object.__setattr__(self, "wave_seconds", float(self.wave_seconds))

    @property
    def excerpt_samples(self) -> int:
        """Samples in a full excerpt at `sample_rate`."""
        return round(self.excerpt_seconds * self.sample_rate)

    @property
    def wave_samples(self) -> int:
        """Samples in the stored waveform window at `sample_rate` (0 stores none)."""
        return round(min(self.wave_seconds, self.excerpt_seconds) * self.sample_rate)

    def n_frames(self, n_samples: int) -> int:
        """Number of STFT frames of a centred transform.

        Parameters
        ----------
        n_samples : int
            Samples of the signal at `sample_rate`.

        Returns
        -------
        int
            1 + n_samples // hop_length.
        """
        return 1 + n_samples // self.hop_length

    def as_dict(self) -> dict[str, Any]:
        """The fields in a form that JSON can hold; `from_dict` reads them back.

        Returns
        -------
        dict
        """
        return {**dataclasses.asdict(self), "groups": list(self.groups)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Spec:
        """Read what `as_dict` wrote.

        Parameters
        ----------
        values : mapping
            Every field of the spec by its name.

        Returns
        -------
        Spec

        Raises
        ------
        SpecMismatch
            If fields are unknown to this version, missing, or of another type.
        UsageError
            If a number is out of its range.

        Examples
        --------
        >>> Spec.from_dict(Spec(n_mels=64).as_dict()).n_mels
        64
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        missing = sorted(known - set(values))
        if unknown or missing:
            raise SpecMismatch(
                f"spec: unknown fields {unknown}, missing fields {missing}",
                "The store was made by another version of this toolkit; use that version or build a new store.",
            )
        try:
            return cls(**{**values, "groups": tuple(values["groups"])})
        except TypeError as error:
            raise SpecMismatch(f"spec: a value has the wrong type ({error})", "Build a new store.") from None

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change exactly when a field changes."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def require(self, other: Spec, *, here: str, there: str) -> None:
        """Refuse another spec than this one.

        Parameters
        ----------
        other : Spec
            What is to be the same.
        here, there : str
            What has this spec and what has the other, for the message.

        Raises
        ------
        SpecMismatch
            If a number differs; the message names each.
        """
        mine, theirs = self.as_dict(), other.as_dict()
        found = [f"{k}: {here} has {mine[k]}, {there} has {theirs[k]}" for k in mine if mine[k] != theirs[k]]
        if found:
            raise SpecMismatch(
                "the specs differ, and values made with different specs are never mixed:\n  " + "\n  ".join(found),
                f"Use the numbers of {here}, or make a new store with --store PATH.",
            )
