"""Estimates with their 95 % intervals: percentile bootstraps that resample whole groups (artists)."""

from __future__ import annotations

import dataclasses

import numpy as np

from analysis.evaluation.scored import Scored

RESAMPLES = 2000
LEVEL = 0.95
_CHUNK_CELLS = 4_000_000  # cells of a block of bootstrap weights: 32 MB


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval.

    Parameters
    ----------
    value, low, high : float
        The estimate and the two ends.
    """

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 where the whole interval is above zero, -1 where it is below, 0 where it holds zero."""
        return int(self.low > 0) - int(self.high < 0)

    def text(self, scale: float = 1.0, digits: int = 3, sign: bool = False) -> str:
        """The interval in words.

        Parameters
        ----------
        scale : float
            Factor of all three numbers: 100 turns shares into points.
        digits : int
            Decimals.
        sign : bool
            Whether a plus sign is written.

        Returns
        -------
        str

        Examples
        --------
        >>> Interval(0.512, 0.478, 0.545).text()
        '0.512 [0.478, 0.545]'
        """
        form = f"{{:{'+' if sign else ''}.{digits}f}}"
        value, low, high = (form.format(scale * v) for v in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"

    def cells(self, name: str) -> dict[str, float]:
        """Three cells of a table row: `name`, `name_low`, `name_high`; of the accuracy plain `low` and `high`.

        Parameters
        ----------
        name : str
            Column of the estimate.

        Returns
        -------
        dict

        Examples
        --------
        >>> Interval(0.5, 0.4, 0.6).cells("gap")
        {'gap': 0.5, 'gap_low': 0.4, 'gap_high': 0.6}
        """
        before = "" if name == "accuracy" else f"{name}_"
        return {name: self.value, f"{before}low": self.low, f"{before}high": self.high}


def group_weights(n_groups: int, rng: np.random.Generator, resamples: int = RESAMPLES) -> list[np.ndarray]:
    """How often each group is drawn in each bootstrap resample.

    Parameters
    ----------
    n_groups : int
        Groups to draw from, as many as are drawn.
    rng : numpy.random.Generator
        Source of the draws.
    resamples : int
        Number of resamples.

    Returns
    -------
    list of (b, n_groups) float64
        Blocks that fit in memory, `resamples` rows in all.
    """
    step = max(1, _CHUNK_CELLS // max(1, n_groups))
    share = np.full(n_groups, 1 / n_groups)
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return [rng.multinomial(n_groups, share, size=size).astype(np.float64) for size in sizes]


def resampled_units(groups: np.ndarray) -> np.ndarray:
    """What a bootstrap resamples: the groups, or single rows where all are of one group (which has no spread).

    Parameters
    ----------
    groups : (t,) int64
        Group of each row.

    Returns
    -------
    (t,) int64
        Codes from 0.
    """
    names, code = np.unique(groups, return_inverse=True)
    return code if len(names) > 1 else np.arange(len(groups))


def bootstrap_mean(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Bootstrap draws of the mean of per-track values, whole groups resampled.

    Parameters
    ----------
    values : (t,) or (t, m)
        One or m values of each track. Every column meets the same resamples.
    groups : (t,) int64
        Group of each track.
    seed : int
        Seed of the resamples.

    Returns
    -------
    (RESAMPLES,) or (RESAMPLES, m) float64

    Examples
    --------
    >>> bootstrap_mean(np.array([0.0, 1.0, 1.0]), np.array([1, 2, 3])).shape
    (2000,)
    """
    code = resampled_units(groups)
    columns = values.reshape(len(values), -1)
    total = np.column_stack([np.bincount(code, weights=column) for column in columns.T])
    count = np.bincount(code).astype(np.float64)
    rng = np.random.default_rng(seed)
    draws = np.concatenate([(w @ total) / (w @ count)[:, None] for w in group_weights(len(count), rng)])
    return draws.reshape(-1, *values.shape[1:])


def interval(value: float, draws: np.ndarray) -> Interval:
    """The percentile interval of bootstrap draws around an estimate.

    Parameters
    ----------
    value : float
        The estimate.
    draws : (r,)
        Its bootstrap draws.

    Returns
    -------
    Interval

    Examples
    --------
    >>> interval(0.5, np.linspace(0, 1, 201)).text()
    '0.500 [0.025, 0.975]'
    """
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def accuracy_interval(scored: Scored, seed: int = 0, draws: np.ndarray | None = None) -> Interval:
    """Accuracy with its bootstrap interval over groups.

    Where every track (or none) is right a bootstrap has no spread and would claim certainty. The exact binomial bound
    over groups takes its place: with all of g groups right, the lower end is 0.025 ** (1 / g).

    Parameters
    ----------
    scored : Scored
        Answers by track.
    seed : int
        Seed of the resamples.
    draws : (RESAMPLES,), optional
        Draws of `bootstrap_mean`, where they are known already.

    Returns
    -------
    Interval
        NaN three times without tracks.

    Examples
    --------
    >>> from analysis.evaluation import by_track
    >>> ids = np.arange(4)
    >>> scored = by_track(ids, np.array([0, 0, 1, 1]), ids, np.eye(2)[[0, 1, 1, 1]])
    >>> accuracy_interval(scored).text(digits=2)
    '0.75 [0.25, 1.00]'
    """
    if not len(scored.truth):
        return Interval(float("nan"), float("nan"), float("nan"))
    value = scored.accuracy
    if value in (0.0, 1.0):
        bound = ((1 - LEVEL) / 2) ** (1 / len(np.unique(scored.groups)))
        return Interval(value, bound if value else 0.0, 1.0 if value else 1 - bound)
    if draws is None:
        draws = bootstrap_mean(scored.correct.astype(float), scored.groups, seed)
    return interval(value, draws)
