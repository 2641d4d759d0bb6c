"""What to know of a step that is not finite: where it began, and a bundle that reproduces it.

A bundle is a folder: state.npz (all that the step would have changed), batch.npz, config.json and report.txt.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from isr_jax.config import TrainConfig, UserError, config_to_dict, read_config
from isr_jax.files import replace_file
from isr_jax.models.model_file import get_params
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.state import Params, TrainState, init_state, make_bind
from isr_jax.training.step import Observed, make_degrade


def diagnose(config: TrainConfig, state: TrainState, batch: dict[str, np.ndarray]) -> str:
    """Finds the first quantity of a step that is not finite.

    Args:
      config: Of the run.
      state: The state before the step.
      batch: "lr" and "hr" of the step, uint8, before it is degraded; its first rows at least.
    Returns: One line that names the stage, the term and the groups of parameters.
    """
    state = jax.tree.map(jnp.asarray, state)
    params = state.params
    groups = _groups(name for name, value in params.items() if not bool(jnp.isfinite(value).all()))
    if groups:
        return f"the parameters are not finite before the first stage: {groups}"
    model = make_bind(ISRResCNet(config.trained_model, rngs=nnx.Rngs(0)))(params)
    scale = config.scale_cycle[int(state.step) % len(config.scale_cycle)]
    observed = make_degrade(config, scale)(batch, state.step, 0)
    term = _first_term(model, observed)

    def loss_of(params: Params) -> Any:
        return config.loss.build()(make_bind(model)(params)(observed.lr, **observed.known), observed.hr)

    loss, grads = jax.jit(jax.value_and_grad(loss_of))(params)
    bad = _groups(name for name, grad in grads.items() if not bool(jnp.isfinite(grad).all()))
    if term:
        return f"first not finite: {term}; gradients not finite: {bad or 'none'}"
    if not bool(jnp.isfinite(loss)):
        return f"every stage is finite, the loss is not; gradients not finite: {bad or 'none'}"
    if bad:
        return f"every stage and the loss are finite, the gradient is not: {bad}"
    return _first_of_update(config, state, grads)


def _first_of_update(config: TrainConfig, state: TrainState, grads: Params) -> str:
    """Makes the update of a finite gradient, term by term; as in `isr_jax.training.step.make_step`."""
    rate = config.schedule.build(config.steps)(state.step) * state.rate_factor
    if not _finite(rate):
        return f"every stage, the loss and the gradient are finite, the learning rate is {rate} (schedule)"
    updates: Any = config.optimizer.build().update(grads, state.optimizer, state.params)[0]
    bad = _groups(name for name, update in updates.items() if not _finite(update))
    if bad:
        return f"the gradient is finite, what the optimiser makes of it is not: {bad} (optimizer)"
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
    bad = _groups(name for name, value in params.items() if not _finite(jnp.square(value).sum()))
    if bad:
        return f"the update is too large at learning rate {rate:.3g}: {bad} (schedule.learning_rate)"
    return "everything is finite: the step depends on more than one update, or does not reproduce"


def _first_term(model: ISRResCNet, observed: Observed) -> str:
    """Runs the solver stage by stage and term by term; the equations at the top of `isr_jax.solver.unrolled`."""
    config = model.config
    observation, state = model.prepare(observed.lr, **observed.known)
    if not _finite(state.x, observation.noise_std):
        return "the initial estimate, before stage 1"
    for k in range(config.num_stages):
        terms = model.terms(observation, state, k)
        names = {
            "extrapolated": "extrapolation (log_momentum)",
            "data_step": f"data term ({'step' if config.learned_step else config.physics})",
            "noise": "network (prior)",
        }
        for term, name in names.items():
            if not _finite(getattr(terms, term)):
                return f"stage {k + 1}, {name}"
        state = terms.state
        if not _finite(state.x):
            return f"stage {k + 1}, projection (log_radius)"
    if not _finite(model.final_data_step(observation, state.x)):
        return f"the final data step ({config.physics})"
    return ""


def _finite(*arrays: Any) -> bool:
    return all(bool(jnp.isfinite(a).all()) for a in arrays)


def _groups(names: Any) -> str:
    """Shortens parameter names to their groups, as erd.blocks.3."""
    groups = [".".join(name.split(".")[: 3 if ".blocks." in name else 2]) for name in names]
    return ", ".join(dict.fromkeys(groups))


# ---------------------------------------------------------------------------------------------------------------------
# Bundles.
# ---------------------------------------------------------------------------------------------------------------------


def write_bundle(folder: Path, config: TrainConfig, state: TrainState, batch: dict[str, np.ndarray]) -> str:
    """Writes a bundle and returns its report."""
    local = jax.tree.map(np.asarray, jax.device_get(state))
    arrays = {f"{i}": leaf for i, leaf in enumerate(jax.tree.leaves(local))}
    replace_file(folder / "state.npz", lambda path: np.savez(path, **arrays))
    replace_file(folder / "batch.npz", lambda path: np.savez(path, **batch))  # pyright: ignore[reportArgumentType]
    replace_file(folder / "config.json", lambda path: path.write_text(json.dumps(config_to_dict(config), indent=2)))
    report = diagnose(config, local, batch)  # last: it may need more memory than the step did
    replace_file(folder / "report.txt", lambda path: path.write_text(report + "\n"))
    return report


def _check_batch(config: TrainConfig, lr: np.ndarray, hr: np.ndarray) -> None:
    """Raises unless they are the pictures of a step."""
    pictures = lr.dtype == hr.dtype == np.uint8 and lr.ndim == hr.ndim == 4 and lr.size and hr.size
    if pictures and not config.data.degradation.active:  # else LR is made in the step
        n, height, width, channels = lr.shape
        pictures = hr.shape == (n, height * config.model.scale, width * config.model.scale, channels)
    if not pictures or hr.shape[3] != config.model.channels:
        raise ValueError(f"its batch, LR {lr.dtype} {lr.shape} and HR {hr.dtype} {hr.shape}, is not of its run")


def read_bundle(folder: Path) -> tuple[TrainConfig, TrainState, dict[str, np.ndarray]]:
    """Reads what `write_bundle` wrote.

    Raises:
      UserError: If the folder is no bundle.
    """
    try:
        config = read_config(TrainConfig, folder / "config.json")
        with (folder / "state.npz").open("rb") as stream, np.load(stream) as file:
            leaves = [file[str(i)] for i in range(len(file.files))]
        with (folder / "batch.npz").open("rb") as stream, np.load(stream) as file:
            batch = {name: file[name] for name in ("lr", "hr")}
        model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
        like = jax.eval_shape(lambda: init_state(get_params(model), config.optimizer.build()))
        if [(x.shape, x.dtype) for x in leaves] != [(x.shape, x.dtype) for x in jax.tree.leaves(like)]:
            raise ValueError("its state is not of its configuration")
        _check_batch(config, batch["lr"], batch["hr"])
        return config, jax.tree.unflatten(jax.tree.structure(like), leaves), batch
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{folder}: not a bundle of a failed step ({reason}); train writes RUN/nonfinite_STEP"
        ) from None
