"""A new run that starts from the weights of another model."""

import math

import numpy as np

from isr_jax.config import ERDConfig, ModelConfig, UserError
from isr_jax.models.model_file import load_model, parameters_to_dict
from isr_jax.solver.erd import for_other_scale
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.state import Params


def warm_start(params: Params, config: ModelConfig, source: str) -> tuple[Params, int]:
    """Replaces the parameters that a model has in the same shape, or, at LR resolution, can have.

    There the encoder and the decoder of a scale that the source has not are those of its nearest scale, adapted, and an
    encoder starts without regard to what the source does not see: a plane of levels, features that are carried. The
    weights of data steps of more stages are those of the last.

    Args:
      params: Of the new model.
      config: Of the new model.
      source: Model file or run folder.
    Returns: The parameters, and how many of them are the source's.
    Raises:
      UserError: If none fits.
    """
    fitting = fitting_parameters(params, config, load_model(source))
    if not fitting:
        raise UserError(f"{source}: none of its parameters fits this model")
    return {**params, **fitting}, len(fitting)


def fitting_parameters(params: Params, config: ModelConfig, model: ISRResCNet) -> Params:
    """Returns the parameters that a new model can have of another, as `warm_start` has it."""
    given: Params = parameters_to_dict(model)
    if _at_lr(model.config) and _at_lr(config):
        given |= _heads(given, model.config, config)
    given |= _weights(given, model.config, config)
    return {k: v for k, v in given.items() if k in params and params[k].shape == v.shape}


def _at_lr(config: ModelConfig) -> bool:
    prior = config.prior
    return isinstance(prior, ERDConfig) and prior.resolution == "lr" and not prior.weight_norm


def _nearest(scale: int, scales: tuple[int, ...]) -> int:
    return min(scales, key=lambda other: abs(math.log(other / scale)))


def _heads(given: Params, old: ModelConfig, new: ModelConfig) -> Params:
    """Returns the encoders and decoders of the new model's scales."""
    found: Params = {}
    pictures = len(old.start_weights) or 1
    seen = [e.noise_plane + e.error_plane + e.carry_features * e.features for e in (old.erd, new.erd)]
    for scale in new.all_scales:
        base = _nearest(scale, old.all_scales)
        head: Params = {}
        for part in ("encoder", "decoder"):
            prefix = f"prior.{part}.x{base}." if old.scales else f"prior.{part}."
            head |= {f"{part}.{k.removeprefix(prefix)}": v for k, v in given.items() if k.startswith(prefix)}
        if base != scale:
            head |= for_other_scale(head, base, scale, channels=old.channels, pictures=pictures)
        if not old.erd.carry_features:  # which come last
            kernel = np.asarray(head["encoder.kernel"])
            more = max(0, seen[1] - seen[0])
            head["encoder.kernel"] = np.pad(kernel, [*[(0, 0)] * (kernel.ndim - 2), (0, more), (0, 0)])
        for name, value in head.items():
            part, _, rest = name.partition(".")
            found[f"prior.{part}.x{scale}.{rest}" if new.scales else f"prior.{name}"] = value
    return found


def _weights(given: Params, old: ModelConfig, new: ModelConfig) -> Params:
    """Returns the weights of the data term for the new model's scales."""
    found: Params = {}
    stages = [*np.minimum(np.arange(new.num_stages), old.num_stages - 1), *[-1] * new.final_data_step]
    for name in ("log_weight", "log_start_weight"):
        value = given.get(name)
        if value is not None and old.scales and new.scales:
            value = value[[old.scales.index(_nearest(scale, old.scales)) for scale in new.scales]]
        if value is not None and name == "log_weight":
            value = value[..., stages]
        found |= {} if value is None else {name: value}
    return found
