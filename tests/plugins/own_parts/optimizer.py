"""An optimiser: --optimizer.kind own_parts.optimizer:lion."""

import optax

from isr_jax.config import OptimizerConfig


def lion(config: OptimizerConfig) -> optax.GradientTransformation:
    """Chen et al. 2023 (arXiv 2302.06675); the learning rate is isr_jax's to multiply by."""
    return optax.scale_by_lion(b1=config.b1, b2=config.b2)
