"""Large arrays in bands of rows: for what would else need a copy of all of it in a wider type."""

import math
from collections.abc import Iterator

BAND = 2**20
"""Numbers that a band has, about."""


def bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yields slices that cover the first axis of an array of a shape, in order; at least one row each."""
    rows = max(1, BAND // max(1, math.prod(shape[1:])))
    for first in range(0, shape[0], rows):
        yield slice(first, min(first + rows, shape[0]))
