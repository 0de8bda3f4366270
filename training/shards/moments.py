"""Mean and standard deviation of the training arrays, from sums that tasks deliver one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass
class Moments:
    """Sums per band (mel), per column (features) or over all samples (wave, one number).

    What is not finite is not counted: an imported feature set may lack values.

    Parameters
    ----------
    n, total, squares : ndarray of float64, shape (bands or columns,) or (1,)
        How many values, their sum, the sum of their squares.
    longest : tuple of int
        Shape of the longest record.
    """

    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    longest: tuple[int, ...] = ()

    @classmethod
    def none(cls) -> Moments:
        """Start with no array at all.

        Returns
        -------
        Moments
        """
        return cls(np.zeros(1), np.zeros(1), np.zeros(1))

    def add(self, kind: str, array: np.ndarray) -> None:
        """Count one array.

        Parameters
        ----------
        kind : {"mel", "wave", "features"}
        array : ndarray of float32 or float16, time first
        """
        rows = array.reshape({"mel": (-1, array.shape[-1]), "wave": (-1, 1), "features": (1, -1)}[kind])
        known = np.isfinite(rows)
        values = np.where(known, rows, 0).astype(np.float64)
        self.n = self.n + known.sum(axis=0)
        self.total = self.total + values.sum(axis=0)
        self.squares = self.squares + np.einsum("ij,ij->j", values, values)

    def see(self, shape: tuple[int, ...]) -> None:
        """Note the shape of a record, also of one that the sums leave out.

        Parameters
        ----------
        shape : tuple of int
            Time first.
        """
        self.longest = max(self.longest, shape)

    def merge(self, other: Moments) -> None:
        """Add the sums of other arrays.

        Parameters
        ----------
        other : Moments
        """
        self.n = self.n + other.n
        self.total = self.total + other.total
        self.squares = self.squares + other.squares
        self.longest = max(self.longest, other.longest)

    def normalisation(self) -> dict[str, list[float]]:
        """Mean and standard deviation.

        Returns
        -------
        dict
            {"mean", "std"}, to six digits; the deviation is 1 where nothing varies, so that nothing explodes.
        """
        n = np.maximum(1, self.n)
        mean = self.total / n
        std = np.sqrt(np.maximum(0.0, self.squares / n - mean**2))
        std = np.where(std > 1e-6 * np.maximum(1.0, np.abs(mean)), std, 1.0)
        return {"mean": [float(f"{v:.6g}") for v in mean], "std": [float(f"{v:.6g}") for v in std]}

    def as_dict(self) -> dict[str, Any]:
        """Give the sums as JSON keeps them, exactly.

        Returns
        -------
        dict
        """
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Moments:
        """Take up the sums that `as_dict` gave.

        Parameters
        ----------
        values : mapping

        Returns
        -------
        Moments
        """
        n, total, squares = (np.array(values[name], np.float64) for name in ("n", "total", "squares"))
        return cls(n, total, squares, tuple(values["longest"]))
