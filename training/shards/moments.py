"""Mean and standard deviation of the training arrays, from sums that tasks deliver one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from training.shards.encoding import as_float32


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
        if kind == "mel":  # finite in the store, and large: one compiled sweep
            self._add_rows(as_float32(array))
            return
        rows = array.reshape(-1, 1) if kind == "wave" else array.reshape(1, -1)
        known = np.isfinite(rows)
        if not known.all():
            rows = np.where(known, rows, 0)
        self.n = self.n + known.sum(axis=0)
        self.total = self.total + rows.sum(axis=0, dtype=np.float64)
        self.squares = self.squares + np.square(rows, dtype=np.float64).sum(axis=0)

    def _add_rows(self, rows: np.ndarray) -> None:
        from training.shards import kernels

        total, squares = np.zeros((2, rows.shape[1]))
        kernels.add_sums(rows, total, squares)
        self.n, self.total, self.squares = self.n + len(rows), self.total + total, self.squares + squares

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
