"""The update rules that `OptimizerConfig.kind` names; each without the learning rate.

A rule is a function of the configuration that returns an `optax.GradientTransformation`, whose updates are multiplied
by minus the rate. A rule of one's own is a function like these, anywhere: kind="my_package.rules:lion".
"""

from typing import Any

import jax.numpy as jnp
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
    rule = optax.contrib.muon(
        -1.0,  # optax multiplies by minus the rate
        adam_b1=config.b1,
        adam_b2=config.b2,
        eps=config.epsilon,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=_matrices,
    )
    return _stacked(rule)


_STACK = "stack of "


def _matrices(params: Any) -> Any:
    """Tells Muon what is its own: stacks of kernels, each kernel as [rows x columns x inputs, outputs].

    Further leading axes, of the stack and of per-stage ERDs, number matrices.
    """
    matrix = MuonDimensionNumbers(reduction_axis=(-4, -3, -2), output_axis=-1)
    return {name: matrix if name.startswith(_STACK) else None for name in params}


def _stacked(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns the rule on parameters whose kernels from features to features are stacked, those of one shape in one.

    The 420 small matrix products of an isr-lite's 28 kernels become 15 batched ones. The first and the last layer stay
    as they are, as Muon's authors advise.
    """

    def stacks(params: Any) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for name in sorted(params):
            hidden = name.startswith(("prior.blocks.", "prior.compress.")) and name.endswith(".kernel")
            groups.setdefault(_STACK + "x".join(map(str, params[name].shape)) if hidden else name, []).append(name)
        return groups

    def stack(params: Any) -> Any:
        groups = stacks(params).items()
        return {g: jnp.stack([params[n] for n in names]) if g.startswith(_STACK) else params[g] for g, names in groups}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        new: Any
        new, state = rule.update(stack(updates), state, None if params is None else stack(params))
        apart: dict[str, Any] = {}
        for group, names in stacks(updates).items():
            apart |= dict(zip(names, new[group] if group.startswith(_STACK) else [new[group]], strict=True))
        return apart, state

    return optax.GradientTransformation(lambda params: rule.init(stack(params)), update)  # pyright: ignore


def complete(
    rule: optax.GradientTransformation, clip_norm: float, weight_decay: float, *, kernels_only: bool = False
) -> optax.GradientTransformation:
    """Returns the rule behind clipping by the global norm (0: none) and before decoupled weight decay (0: none).

    Of Muon the kernels alone decay: its updates make them grow, and with them the gain of a deep network without
    normalisation, until single batches explode; the logarithms of the solver's weights would decay to no weight's.
    """
    mask = (lambda params: {name: name.endswith(".kernel") for name in params}) if kernels_only else None
    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        rule,
        optax.add_decayed_weights(weight_decay, mask) if weight_decay else optax.identity(),
    )
