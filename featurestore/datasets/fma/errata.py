"""What is known to be wrong with FMA's clips.

FMA cut its clips at the middle of the length that the metadata claimed. Where the claim was wrong, the cut fell at or
past the end of the music, and the clip is empty or short. The same files are in fma_small, fma_medium and fma_large;
fma_full holds the whole tracks and is not affected. Source: the errata on the wiki of github.com/mdeff/fma, "Excerpts
shorter than 30s and erroneous audio length metadata", and its issues 8, 36 and 41.
"""

from __future__ import annotations

from collections.abc import Iterable

# track_id: seconds of audio in the clip, as published (one decimal)
SHORT_CLIPS = {
    1486: 0.0,
    5574: 0.0,
    65753: 0.0,
    80391: 0.0,
    98558: 0.0,
    98559: 0.0,
    98560: 0.0,
    98565: 1.6,
    98566: 6.2,
    98567: 0.5,
    98568: 6.6,
    98569: 1.5,
    98571: 0.0,
    99134: 0.0,
    105247: 0.0,
    108924: 27.4,
    108925: 0.0,
    126981: 0.0,
    127336: 0.0,
    133297: 0.0,
    143992: 0.0,
}


def expected_failures(track_ids: Iterable[int]) -> list[int]:
    """Choose the tracks whose clip holds no audio at all: a build cannot but report them as failed.

    Parameters
    ----------
    track_ids : iterable of int
        FMA's track ids.

    Returns
    -------
    list of int
        Those of them, sorted.

    Examples
    --------
    >>> expected_failures([2, 99134, 98565])
    [99134]
    """
    return sorted(i for i in track_ids if SHORT_CLIPS.get(i) == 0.0)


def expected_short(track_ids: Iterable[int]) -> list[int]:
    """Choose the tracks whose clip is cut short but holds some audio.

    Parameters
    ----------
    track_ids : iterable of int
        FMA's track ids.

    Returns
    -------
    list of int
        Those of them, sorted.

    Examples
    --------
    >>> expected_short([2, 99134, 98565])
    [98565]
    """
    return sorted(i for i in track_ids if SHORT_CLIPS.get(i, 0.0) > 0.0)
