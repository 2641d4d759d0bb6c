"""A new run that starts from the weights of another model."""

from isr_jax.config import ERDConfig, ModelConfig, UserError
from isr_jax.models.model_file import load_model, parameters_to_dict
from isr_jax.solver.erd import for_other_scale
from isr_jax.training.state import Params


def warm_start(params: Params, config: ModelConfig, source: str) -> tuple[Params, int]:
    """Replaces the parameters that a model has in the same shape, or, at LR resolution, can have.

    Args:
      params: Of the new model.
      config: Of the new model.
      source: Model file or run folder; at LR resolution also of another scale.
    Returns: The parameters, and how many of them are the source's.
    Raises:
      UserError: If none fits.
    """
    model = load_model(source)
    given: Params = parameters_to_dict(model)
    old, new = model.config, config
    both = isinstance(old.prior, ERDConfig) and isinstance(new.prior, ERDConfig)
    if both and old.scale != new.scale and old.erd.resolution == new.erd.resolution == "lr" and not old.erd.weight_norm:
        erd = {name.removeprefix("prior."): value for name, value in given.items()}
        adapted = for_other_scale(erd, old.scale, new.scale, channels=old.channels)
        given |= {f"prior.{name}": value for name, value in adapted.items()}
    fitting = {k: v for k, v in given.items() if k in params and params[k].shape == v.shape}
    if not fitting:
        raise UserError(f"{source}: none of its parameters fits this model")
    return {**params, **fitting}, len(fitting)
