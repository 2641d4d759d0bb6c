"""Whether one method is better than another on a set of pictures, or only on these: the paired bootstrap.

Pictures differ far more from one another than methods do on one of them, so that differences are taken picture by
picture, and the pictures are drawn anew, with replacement: what the mean difference would have been on other sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
"""Sets of pictures that are drawn."""

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The mean difference of a measure between two methods, and between which figures it may lie."""

    mean: float
    low: float
    high: float

    @property
    def is_significant(self) -> bool:
        """Whether 0 lies outside the interval."""
        return not self.low <= 0 <= self.high


def paired_difference(
    values: Sequence[float] | np.ndarray,
    baseline: Sequence[float] | np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Returns the mean of values - baseline over pictures, with its 95 % percentile interval of the bootstrap.

    The interval of few pictures is too narrow: where differences are normal, it holds the truth in 94 of 100 sets of
    100 pictures, 92 of 100 sets of 14, 85 of 100 sets of 5 (of 2,000 sets each).

    Args:
      values: Of one method, a number for each picture.
      baseline: Of the other, on the same pictures in the same order.
      resamples: How many sets are drawn.
      seed: Of what is drawn: the same for the same number of pictures.
    Raises:
      ValueError: If the two are not of one length, or there is no picture.
    References: Efron & Tibshirani, An introduction to the bootstrap, 1993, chapter 13.
    """
    if len(values) != len(baseline) or not len(values):
        raise ValueError(f"a paired difference is of the same pictures, not of {len(values)} and {len(baseline)}")
    differences = np.subtract(values, baseline, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(mean=float(differences.mean()), low=float(low), high=float(high))
