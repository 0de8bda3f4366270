"""The feature registry: one row per feature. Column names, units and descriptions everywhere derive from it.

A column is `<feature>_<statistic>_<NN>`: `mfcc_mean_01`, `spectral_centroid_std_01`, `tempo_value_01`. NN counts
dimensions from 01. Adding a feature is one pure function, one row here, and one test against its source.
"""

from __future__ import annotations

import dataclasses
import functools
import re

STATISTICS = ("mean", "std", "skew", "kurtosis", "median", "min", "max")
DYNAMICS = ("mean", "std")  # for derived frame features, where seven statistics add columns but little information
SCALAR = ("value",)

STATISTIC_DESCRIPTIONS = {
    "mean": "mean over frames",
    "std": "standard deviation over frames (population)",
    "skew": "skewness over frames (0 for a constant row)",
    "kurtosis": "excess kurtosis over frames (0 for a constant row)",
    "median": "median over frames",
    "min": "minimum over frames",
    "max": "maximum over frames",
    "value": "one value per excerpt",
}
NO_UNIT = "no unit"  # a ratio or a shape: a column says so, as an empty unit would look forgotten
_UNITLESS = frozenset({"skew", "kurtosis"})

GROUPS = {
    "fma": "the eleven features of the FMA paper (arXiv 1612.01840, table 3): 74 dimensions x 7 statistics = 518",
    "rhythm": "onset strength, tempo and pulse clarity, from the mel spectrogram already computed",
    "timbre_dynamics": "delta and delta-delta MFCC, spectral flatness and spectral flux",
}


@dataclasses.dataclass(frozen=True)
class Feature:
    """One registered feature.

    Parameters
    ----------
    name, group, unit, description : str
        What it is called, its group (a key of `GROUPS`), its unit ("" where it has none), what it is.
    width : int
        Its dimensions.
    statistics : tuple of str
        What each dimension is summarised by, keys of `STATISTIC_DESCRIPTIONS`.
    """

    name: str
    width: int
    group: str
    unit: str
    description: str
    statistics: tuple[str, ...] = STATISTICS


@dataclasses.dataclass(frozen=True)
class Column:
    """One float32 column of the `features` table."""

    name: str
    feature: str
    statistic: str
    dimension: int
    group: str
    unit: str
    description: str


FEATURES: tuple[Feature, ...] = (
    Feature("chroma_stft", 12, "fma", "", "pitch-class energy of the power spectrogram, per-frame maximum 1; C first"),
    Feature(
        "chroma_cqt", 12, "fma", "", "pitch-class energy of the constant-Q transform, per-frame maximum 1; C first"
    ),
    Feature("chroma_cens", 12, "fma", "", "chroma energy normalised statistics: quantised, smoothed chroma; C first"),
    Feature("tonnetz", 6, "fma", "", "tonal centroid: fifths x/y, minor thirds x/y, major thirds x/y"),
    Feature("mfcc", 20, "fma", "dB", "mel-frequency cepstral coefficient (orthonormal DCT-II of the mel dB)"),
    Feature("rms", 1, "fma", "full scale", "root-mean-square level of a frame"),
    Feature("spectral_centroid", 1, "fma", "Hz", "magnitude-weighted mean frequency"),
    Feature("spectral_bandwidth", 1, "fma", "Hz", "magnitude-weighted deviation around the centroid"),
    Feature("spectral_contrast", 7, "fma", "dB", "peak minus valley of an octave band; lowest band first"),
    Feature("spectral_rolloff", 1, "fma", "Hz", "frequency below which 85 % of the magnitude lies"),
    Feature("zcr", 1, "fma", "crossings per sample", "zero-crossing rate"),
    Feature("onset_strength", 1, "rhythm", "dB", "mean positive change of the mel dB between frames"),
    Feature("tempo", 1, "rhythm", "beats per minute", "global tempo from the onset autocorrelation", SCALAR),
    Feature("pulse_clarity", 1, "rhythm", "", "strongest onset autocorrelation at a tempo lag, 0 to 1", SCALAR),
    Feature("mfcc_delta", 20, "timbre_dynamics", "dB per frame", "first-order change of an MFCC", DYNAMICS),
    Feature("mfcc_delta2", 20, "timbre_dynamics", "dB per frame squared", "second-order change of an MFCC", DYNAMICS),
    Feature("spectral_flatness", 1, "timbre_dynamics", "", "geometric over arithmetic mean of the power spectrum"),
    Feature("spectral_flux", 1, "timbre_dynamics", "full scale", "Euclidean distance of successive magnitude frames"),
)

BY_NAME = {f.name: f for f in FEATURES}

_COLUMN = re.compile(r"^(?P<feature>.+)_(?P<statistic>[a-z]+)_(?P<dimension>\d{2,})$")


@functools.lru_cache(maxsize=32)
def columns(groups: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of the `features` table.

    Parameters
    ----------
    groups : tuple of str
        Keys of `GROUPS`.

    Returns
    -------
    tuple of Column
        In stored order: by feature, statistic, dimension.

    Examples
    --------
    >>> columns(("fma",))[0].name
    'chroma_stft_mean_01'
    """
    out = []
    for f in FEATURES:
        if f.group not in groups:
            continue
        for s in f.statistics:
            for d in range(1, f.width + 1):
                which = f", dimension {d} of {f.width}" if f.width > 1 else ""
                text = f"{f.description}{which}; {STATISTIC_DESCRIPTIONS[s]}"
                out.append(Column(f"{f.name}_{s}_{d:02d}", f.name, s, d, f.group, unit_of(f, s), text))
    return tuple(out)


def unit_of(feature: Feature, statistic: str | None) -> str:
    """Unit of a statistic of a feature: the feature's own, but skewness and kurtosis are pure numbers.

    Parameters
    ----------
    feature : Feature
        A row of the registry.
    statistic : str or None
        A key of `STATISTIC_DESCRIPTIONS`; None for a column whose name says none.

    Returns
    -------
    str
        `NO_UNIT` where there is none.

    Examples
    --------
    >>> unit_of(BY_NAME["mfcc"], "mean"), unit_of(BY_NAME["mfcc"], "skew")
    ('dB', 'no unit')
    """
    return NO_UNIT if statistic in _UNITLESS else feature.unit or NO_UNIT


def column_names(groups: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns of the `features` table.

    Parameters
    ----------
    groups : tuple of str
        Keys of `GROUPS`.

    Returns
    -------
    tuple of str
        In the order of `columns`.

    Examples
    --------
    >>> len(column_names(("fma",)))
    518
    """
    return tuple(c.name for c in columns(groups))


def parse_column(name: str) -> tuple[str, str, int] | None:
    """Take the name of a column apart.

    Parameters
    ----------
    name : str
        Name of a column, measured here or imported.

    Returns
    -------
    tuple of (str, str, int) or None
        Feature, statistic and dimension from 1; None where the name does not follow the rule, as in imported sets.

    Examples
    --------
    >>> parse_column("mfcc_mean_01")
    ('mfcc', 'mean', 1)
    """
    match = _COLUMN.match(name)
    if not match or match["statistic"] not in STATISTIC_DESCRIPTIONS:
        return None
    return match["feature"], match["statistic"], int(match["dimension"])
