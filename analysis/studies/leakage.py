"""What artist leakage buys: one model under the store's grouped split and under random ones of the same sizes.

A random split puts other tracks of a test track's artist (and album, and recording session) into training, so the
model may recognise the artist instead of the genre. Same rows, same model and setting, same number of tracks of each
genre on both sides; only who sits where differs.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from analysis.data.plan import Plan
from analysis.data.samples import Sample, join
from analysis.evaluation import Interval, Scored, accuracy_interval, bootstrap_mean, concat, interval
from analysis.models import search
from analysis.models.grid import Candidate

REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Leakage:
    """What a random split flatters a model by.

    Parameters
    ----------
    model : str
    grouped, random, gap : Interval
        Accuracy under both splits, and random minus grouped.
    n_tracks, repeats : int
        Tracks scored in each random deal, and their number.
    """

    model: str
    grouped: Interval
    random: Interval
    gap: Interval
    n_tracks: int
    repeats: int

    def sentence(self, scheme: str) -> str:
        """Say what was found.

        Parameters
        ----------
        scheme : str
            Name of the grouped split.

        Returns
        -------
        str
            One line.
        """
        verdict = {
            -1: "the random split is harder here, which leakage cannot explain",
            0: "no leakage shown: the interval holds zero",
            1: "leakage flatters a random split by that much",
        }[self.gap.sign]
        if self.gap.low == self.gap.high:
            verdict = "every deal is answered alike, so no gap can show"
        return (
            f"leakage gap ({self.model}, n = {self.n_tracks} tracks): {self.grouped.text()} under the {scheme} split, "
            f"{self.random.text()} under {self.repeats} random splits of the same sizes, "
            f"gap {self.gap.text(100, 1, sign=True)} points; {verdict}"
        )


def leakage_gap(
    candidate: Candidate,
    plan: Plan,
    grouped: Scored,
    n_classes: int,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Leakage:
    """Fit `candidate` on `repeats` random deals of the plan's tracks and compare with its answers `grouped`.

    Nothing is chosen here: the setting comes from the grouped search, which if anything favours the grouped split.
    The interval of the gap is that of two independent bootstraps over groups.

    Parameters
    ----------
    candidate : Candidate
    plan : Plan
    grouped : Scored
        The candidate's answers under the grouped split.
    n_classes, repeats, seed : int

    Returns
    -------
    Leakage
    """
    pool = join([plan.fit, plan.report])
    tasks = []
    for r in range(repeats):
        out = deal(pool, plan.report, np.random.default_rng([seed, r]))
        tasks.append((candidate, pool.take(~out), [pool.take(out)], n_classes, seed))
    dealt = search.parallel(search.fit_and_answer, tasks, title="leakage: random splits")
    # a track dealt out several times appears several times; resampling its group takes all its answers along
    everything = concat([answers for (answers,) in dealt])
    sides = ((everything, seed + 1), (grouped, seed))
    random, store = (bootstrap_mean(scored.correct.astype(float), scored.groups, s) for scored, s in sides)
    return Leakage(
        candidate.model,
        accuracy_interval(grouped, seed),
        accuracy_interval(everything, seed + 1),
        interval(everything.accuracy - grouped.accuracy, random - store),
        len(grouped.truth),
        repeats,
    )


def deal(pool: Sample, like: Sample, rng: np.random.Generator) -> np.ndarray:
    """A random choice of as many tracks of each genre as another sample has.

    Parameters
    ----------
    pool, like : Sample
    rng : numpy.random.Generator
        Source of the choice.

    Returns
    -------
    (n,) bool
        Over the pool's rows; rows of a track stay together.
    """
    ids, first = np.unique(pool.track_ids, return_index=True)
    y = pool.y[first]
    _, like_first = np.unique(like.track_ids, return_index=True)
    wanted = np.bincount(like.y[like_first], minlength=int(y.max()) + 1)
    chosen = [rng.choice(ids[y == c], size=n, replace=False) for c, n in enumerate(wanted) if n]
    return np.isin(pool.track_ids, np.concatenate(chosen))
