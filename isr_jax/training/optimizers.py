"""The update rules that `OptimizerConfig.kind` names; each without the learning rate.

A rule is a function of the configuration that returns an `optax.GradientTransformation`, whose updates are multiplied
by minus the rate. A rule of one's own is a function like these, anywhere: kind="my_package.rules:lion".
"""

from typing import Any

import optax
import optax.contrib
from optax.contrib import MuonDimensionNumbers

from isr_jax.config import OptimizerConfig


def adam(config: OptimizerConfig) -> optax.GradientTransformation:
    """Kingma & Ba 2014."""
    return optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.epsilon)


def adamw(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adam; its decoupled weight decay (Loshchilov & Hutter 2017) is added by `complete`."""
    return adam(config)


def amsgrad(config: OptimizerConfig) -> optax.GradientTransformation:
    """Reddi, Kale & Kumar 2018."""
    return optax.scale_by_amsgrad(b1=config.b1, b2=config.b2, eps=config.epsilon)


def muon(config: OptimizerConfig) -> optax.GradientTransformation:
    """Muon for the kernels from features to features, NAdam for the rest.

    Its updates are scaled to the size of Adam's, so that one rate serves both.

    References: Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks; Liu et al. 2025 (arXiv
    2502.16982) for the scale.
    Note: `optax.contrib.muon` gives both halves Nesterov's momentum, hence NAdam.
    """
    return optax.contrib.muon(
        -1.0,  # optax multiplies by minus the rate
        adam_b1=config.b1,
        adam_b2=config.b2,
        eps=config.epsilon,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=_matrices,
    )


def _matrices(params: Any) -> Any:
    """Tells Muon what is its own: kernels from features to features, as [rows x columns x inputs, outputs].

    The first and the last layer are left to NAdam, as Muon's authors advise. Kernels of per-stage ERDs have a leading
    axis; each is a matrix of its own.
    """
    matrix = MuonDimensionNumbers(reduction_axis=(-4, -3, -2), output_axis=-1)
    hidden = ("prior.blocks.", "prior.compress.")
    return {name: matrix if name.startswith(hidden) and name.endswith(".kernel") else None for name in params}


def complete(rule: optax.GradientTransformation, clip_norm: float, weight_decay: float) -> optax.GradientTransformation:
    """Returns the rule behind clipping by the global norm (0: none) and before decoupled weight decay (0: none)."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        rule,
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
    )
