"""Power laws for learning curves: error(n) = floor + scale * n ** -rate, fitted, resampled and extrapolated."""

from __future__ import annotations

import dataclasses

import numpy as np

_RATES = np.linspace(0.02, 2.0, 100)


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """error(n) = floor + scale * n ** -rate.

    Parameters
    ----------
    floor, scale : float
        At or above 0.
    rate : float
        0.02 to 2.
    """

    floor: float
    scale: float
    rate: float

    def error(self, n: np.ndarray | float) -> np.ndarray:
        """Evaluate the law.

        Parameters
        ----------
        n : float or (k,)
            Training tracks, above 0.

        Returns
        -------
        float64 or (k,) float64
            Share of tracks answered wrongly, kept within 0 to 1.

        Examples
        --------
        >>> PowerLaw(floor=0.1, scale=1.0, rate=0.5).error(np.array([4, 100])).round(3).tolist()
        [0.6, 0.2]
        """
        return np.clip(self.floor + self.scale * np.asarray(n, dtype=float) ** -self.rate, 0, 1)


def fit(n: np.ndarray, error: np.ndarray, weight: np.ndarray | None = None) -> PowerLaw:
    """Weighted least squares.

    For a given rate the law is linear in floor and scale, so every rate of a grid is solved exactly (both held at or
    above 0) and the best one taken: no starting point, no local minimum.

    Parameters
    ----------
    n, error : (k,)
        Training tracks, and the error measured there, 0 to 1.
    weight : (k,), optional
        How much each counts; None: all alike.

    Returns
    -------
    PowerLaw

    Raises
    ------
    ValueError
        If there are fewer than 3 different sizes.
    """
    n, error = np.asarray(n, dtype=float), np.asarray(error, dtype=float)
    if len(np.unique(n)) < 3:
        raise ValueError(f"a power law has three numbers: needs at least 3 sizes, found {len(np.unique(n))}")
    w = np.ones(len(n)) if weight is None else np.asarray(weight, dtype=float)
    w = w / w.sum()
    x = n ** -_RATES[:, None]  # (rates, k): everything below is solved for all rates at once
    mean_x, mean_error = x @ w, float(w @ error)
    from_mean = x - mean_x[:, None]
    scale = np.maximum(0, (from_mean * (error - mean_error)) @ w / (from_mean**2 @ w))
    floor = mean_error - scale * mean_x
    # on the boundary the law has no floor and the scale is solved alone
    scale = np.where(floor < 0, (x * error) @ w / (x**2 @ w), scale)
    floor = np.maximum(0, floor)
    loss = (floor[:, None] + scale[:, None] * x - error) ** 2 @ w
    best = int(loss.argmin())
    return PowerLaw(float(floor[best]), float(scale[best]), float(_RATES[best]))
