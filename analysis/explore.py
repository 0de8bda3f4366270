"""Look before you learn: counts, durations, missing values, distributions, correlations, and pictures of tracks.

Counts, durations and missing values describe every track of the store; distributions and correlations describe the
training rows alone, so that nothing learnt here has seen validation or test. Chosen tracks are drawn from what the
store holds: the mel spectrogram of the whole excerpt, and the stored window of the waveform, from which the
chromagram and the spectral centroid are computed for the picture.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from analysis import options
from analysis.data.samples import load
from analysis.figures import audio
from analysis.figures import exploration as figures
from analysis.results import output
from analysis.studies import exploration
from featurestore.errors import MissingInput
from featurestore.store.store import OWN_SET, Store, default_scheme
from featurestore.terminal import cli

Figures = dict[str, Callable[[], Any]]


def explore(
    store: Store,
    *,
    features: str = OWN_SET,
    scheme: str | None = None,
    subset: str | None = None,
    groups: Sequence[str] | None = None,
    tracks: Sequence[int] | None = None,
    seed: int = 0,
) -> output.Study:
    """Describe the store and a feature set. What the store does not hold is left out with a note.

    Parameters
    ----------
    store : Store
    features, scheme, subset, groups
        As for `analysis.data.samples.load`.
    tracks : sequence of int, optional
        Ids of tracks to draw; None: the first of each of three genres.
    seed : int
        Taken as by the other studies; nothing here is random.

    Returns
    -------
    Study

    Raises
    ------
    MissingInput
        If the store has no tracks, or a track to draw was not measured.
    """
    clock, notes = output.Clock(), list[str]()
    scheme = scheme or default_scheme(store)
    with clock.stage("counts"):
        rows = exploration.genre_rows(store, scheme, subset)
        seconds = exploration.durations(store, subset)
    drawn: Figures = {"class_counts": partial(figures.class_counts, rows, scheme)}
    if seconds:
        drawn["durations"] = partial(figures.durations, seconds)
    else:
        notes.append("no durations: nothing was measured yet (python -m featurestore build)")
    tables: dict[str, output.Rows] = {}
    with clock.stage("features"):
        try:
            tables = _features(store, scheme, {"features": features, "subset": subset, "groups": groups}, notes, drawn)
        except MissingInput as error:
            notes.append(f"no feature tables: {error.message}")
    with clock.stage("tracks"):
        for about in exploration.tracks_to_draw(store, tracks, subset):
            drawn[f"track_{about['track_id']}"] = partial(_picture, store, about)
    if store.spec.wave_samples and any(name.startswith("track_") for name in drawn):
        window = f"{store.spec.wave_seconds:g} s window"
        notes.append(f"chromagram and centroid: computed for the picture from the stored {window}")
    return output.Study(
        name="explore",
        rows=rows,
        shown=output.for_people(rows),
        notes=notes,
        sentences=[exploration.summary(rows)],
        facts=output.facts(store, scheme=scheme),
        clock=clock,
        tables=tables,
        figures=drawn,
    )


def _features(
    store: Store, scheme: str, which: Mapping[str, Any], notes: list[str], drawn: Figures
) -> dict[str, output.Rows]:
    """The tables of a feature set (`which`: features, subset, groups); adds to the notes and to the figures."""
    import warehouse

    every = warehouse.matrix(store, labelled=False, **which)
    missing = exploration.missing_rows(every.X, every.columns)
    if any(r["missing"] for r in missing):
        drawn["missing"] = partial(figures.missing, missing)
    else:
        notes.append(f"no value is missing in the {len(every.X)} rows of {which['features']}")
    del every
    tables: dict[str, output.Rows] = {"missing": missing}
    data = load(store, scheme=scheme, **which)
    sample = data.splits.get("training") or next(iter(data.splits.values()))
    effect = exploration.effect_sizes(sample.X, sample.y)
    tables["distributions"] = exploration.distribution_rows(sample, data, effect)
    drawn["distributions"] = partial(figures.distributions, sample, data, effect)
    if len(data.columns) > 1:
        order, cluster, matrix = exploration.correlation_clusters(sample.X)
        places = enumerate(order)
        tables["clusters"] = [{"feature": data.columns[j], "cluster": int(cluster[j]), "place": i} for i, j in places]
        drawn["correlations"] = partial(figures.correlations, matrix, order, cluster, data.columns)
        n, limit = len(np.unique(cluster)), exploration.CLUSTER_AT
        notes.append(f"{len(data.columns)} columns form {n} clusters at rank correlation {limit}")
    return tables


def _picture(store: Store, about: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    import warehouse

    keys = pa.table({"track_id": pa.array([about["track_id"]], pa.int64()), "excerpt": pa.array([0], pa.int16())})
    mel = next(iter(warehouse.iter_mels(store, keys=keys))).mels[0]
    wave = next(iter(warehouse.iter_waves(store, keys=keys))).waves[0] if store.spec.wave_samples else None
    title = f"track {about['track_id']}: {(about['title'] or 'untitled')[:60]} ({about['genre'] or 'no genre'})"
    return audio.track(title, mel, wave, store.spec)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, describe the store, and print and write what was found.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0.
    """
    parser = options.parser("explore", __doc__)
    parser.add_argument("--tracks", metavar="ID,ID", type=options.numbers, default=None, help="tracks to draw")
    return options.run(explore, parser, argv)


if __name__ == "__main__":
    sys.exit(cli.run(main))
