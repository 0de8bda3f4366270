"""Augmentation of a batch, vectorised. Every function takes a stateless seed, so a step can be repeated exactly.

Shapes: x is (B, T, F) for mel and (B, T) for waves; y is one-hot (B, classes); w are sample weights (B,).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from training.backend import tensorflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
    """How hard to augment; zeros do nothing.

    Parameters
    ----------
    masks : int
        Time masks and as many frequency masks per example (SpecAugment, arXiv 1904.08779).
    mask_share : float
        Largest width of a mask, as a share of the axis, 0 to 1.
    mixup : float
        Alpha of the Beta distribution of mixing shares (arXiv 1710.09412).
    """

    masks: int = 0
    mask_share: float = 0.15
    mixup: float = 0.0


def crop(x: Any, lengths: Any, window: int, offsets: Any) -> Any:
    """A window of each example; an example shorter than the window is repeated until it fills it.

    Parameters
    ----------
    x : tensor (B, T, ...)
    lengths : int tensor (B,)
        Valid steps of each example; what lies behind is padding and never read.
    window : int
        Steps.
    offsets : int tensor (B,)
        Where each window starts.

    Returns
    -------
    tensor (B, window, ...)
    """
    tf = tensorflow()
    steps = offsets[:, None] + tf.range(window, dtype=offsets.dtype)[None, :]
    return tf.gather(x, steps % lengths[:, None], batch_dims=1)


def fold(seed: Any, number: int) -> Any:
    """Derive a seed of its own for one of several uses of a seed.

    Parameters
    ----------
    seed : int tensor (2,)
    number : int
        Which use.

    Returns
    -------
    tensor (2,)
        Of the type of `seed`.
    """
    return tensorflow().random.experimental.stateless_fold_in(seed, number)


def random_offsets(lengths: Any, window: int, seed: Any) -> Any:
    """Uniform starts of a window inside each example.

    Parameters
    ----------
    lengths : int tensor (B,)
    window : int
    seed : int tensor (2,)

    Returns
    -------
    tensor (B,) of the type of lengths
        0 where the example is shorter.
    """
    tf = tensorflow()
    room = tf.maximum(lengths - window, 0) + 1
    share = tf.random.stateless_uniform(tf.shape(lengths), seed)
    return tf.minimum(tf.cast(share * tf.cast(room, tf.float32), lengths.dtype), room - 1)


def mask(x: Any, fill: Any, augment: Augment, seed: Any) -> Any:
    """Time and frequency stripes of each example replaced by one value per band.

    Parameters
    ----------
    x : tensor (B, T, F)
    fill : tensor (F,), of the type of x
        The mean of the training data.
    augment : Augment
    seed : int tensor (2,)

    Returns
    -------
    tensor (B, T, F)
    """
    tf = tensorflow()
    hidden = tf.zeros(tf.shape(x), tf.bool)
    for number in range(augment.masks):
        for axis in (1, 2):
            stripe = _stripe(tf.shape(x)[0], tf.shape(x)[axis], augment.mask_share, fold(seed, 10 * number + axis))
            hidden |= stripe[:, :, None] if axis == 1 else stripe[:, None, :]
    return tf.where(hidden, fill, x)


def _stripe(batch: Any, size: Any, share: float, seed: Any) -> Any:
    """bool (batch, size): one run of at most share * size steps in each row."""
    tf = tensorflow()
    drawn = tf.random.stateless_uniform([2, batch], seed)
    width = drawn[0] * share * tf.cast(size, tf.float32)
    start = drawn[1] * (tf.cast(size, tf.float32) - width)
    at = tf.range(size, dtype=tf.float32)[None, :]
    return (at >= start[:, None]) & (at < (start + width)[:, None])


def mixup(x: Any, y: Any, w: Any, alpha: float, seed: Any) -> tuple[Any, Any, Any]:
    """Each example mixed with its neighbour in the (shuffled) batch; labels and weights with the same shares.

    Parameters
    ----------
    x : float tensor (B, ...)
    y : float tensor (B, classes)
    w : float tensor (B,)
    alpha : float
        Of the Beta distribution of shares; an example's own share is the larger one.
    seed : int tensor (2,)

    Returns
    -------
    x, y, w
        As they came in.
    """
    tf = tensorflow()
    gammas = tf.random.stateless_gamma([2, tf.shape(x)[0]], seed, alpha)
    share = gammas[0] / tf.maximum(gammas[0] + gammas[1], 1e-8)
    share = tf.maximum(share, 1 - share)

    def blend(value: Any) -> Any:
        own = tf.reshape(share, [-1] + [1] * (len(value.shape) - 1))
        return own * value + (1 - own) * tf.roll(value, 1, axis=0)

    return blend(x), blend(y), blend(w)
