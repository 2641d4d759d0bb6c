"""On which scale the numbers of a picture are: 0..255 inside the package, other ranges outside it."""

import math

import numpy as np
from jaxtyping import Shaped


def grey_level(pictures: Shaped[np.ndarray, "..."], value_range: float | int | None = None) -> float:
    """Returns the size of one grey level, of which white has 255, in the units of the pictures.

    Integers use their type's whole range. Floating point is on 0..`value_range`, 255 where it is not given. Pictures
    on 0..1 look like nearly black ones on 0..255: where nothing is above 1, the range has to be given.

    Args:
      pictures: uint8, uint16 or floating point.
      value_range: The value of white, such as 1 or 255.
    Raises:
      ValueError: If the type is another, the range has to be given or does not fit, or a value is not finite.
    """
    if pictures.dtype in (np.uint8, np.uint16):
        white = np.iinfo(pictures.dtype).max
        if value_range not in (None, white):
            raise ValueError(f"value_range is {value_range}; that of {pictures.dtype} is {white}: leave it out")
        return white / 255
    if not np.issubdtype(pictures.dtype, np.floating):
        raise ValueError(f"a picture is uint8, uint16 or floating point, not {pictures.dtype}")
    if value_range is not None and not 0 < value_range < math.inf:
        raise ValueError(f"value_range is {value_range}; it is the value of white, such as 1 or 255")
    largest = float(pictures.max(initial=-math.inf))  # NaN if there is one
    if not (largest < math.inf and (pictures.size == 0 or pictures.min() > -math.inf)):
        raise ValueError("a picture has values that are NaN or infinite")
    if value_range is None and pictures.size and largest <= 1:
        raise ValueError(
            f"no value of this floating-point picture is above {largest:.3g}: say value_range=1 if it is on 0..1,"
            " or value_range=255 if it is that dark"
        )
    return (255 if value_range is None else value_range) / 255
