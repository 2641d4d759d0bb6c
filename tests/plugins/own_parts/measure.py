"""A measure: --measures psnr_y own_parts.measure:largest_error."""

import numpy as np

from isr_jax.pictures.measures import Comparison


def largest_error(comparison: Comparison) -> float:
    """Grey levels, inside the border that the field leaves out."""
    result, truth = comparison.inside()
    return float(np.abs(result.astype(float) - truth).max())
