"""A model as one file: safetensors, with the configuration and the provenance in its metadata.

The tensors are named by their place in the module ("prior.blocks.0.conv1.kernel"), so any safetensors reader makes
sense of the file. A model is named by a shipped name, the path of such a file, or a run folder that holds one.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from isr_jax.config import ConfigError, ModelConfig, UserError, config_from_dict, config_to_dict
from isr_jax.config.checks import did_you_mean
from isr_jax.files import replace_file
from isr_jax.models import tensor_file
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.version import package_version

MODEL_FILE = "model.safetensors"
KIND, VERSION = "unrolled", 2
"""What a file says it holds. Version 1 says neither; its network is called erd there."""
SHIPPED = Path(__file__).parent / "weights"
_HEADER = ("format", "kind", "version", "written_by")


def shipped_models() -> list[str]:
    """Returns the names of the models that come with the package; those on free photographs alone first."""
    return sorted(
        (path.stem for path in SHIPPED.glob("*.safetensors")), key=lambda name: (not name.endswith("-free"), name)
    )


def find_model(model: str | os.PathLike) -> Path:
    """Returns the file that a shipped name, a model file or a run folder stands for.

    Raises:
      ConfigError: If there is none.
    """
    path = Path(model)
    if not os.fspath(model):
        raise ConfigError("the model has no name: give a model file, a run folder, or a shipped name")
    if str(model) in shipped_models():
        return SHIPPED / f"{model}.safetensors"
    if path.is_dir():
        if (path / MODEL_FILE).is_file():
            return path / MODEL_FILE
        raise ConfigError(f"{path} holds no {MODEL_FILE} (yet): train writes it at its first save")
    if not path.is_file():
        names = ", ".join(shipped_models()) or "none so far"
        nearest = did_you_mean(str(model), shipped_models())
        raise ConfigError(f"no model {model}{nearest}: give a model file, a run folder, or a shipped name ({names})")
    return path


def get_params(model: nnx.Module) -> dict[str, Any]:
    """Returns the parameters, named by their place in the module, as "prior.encoder.kernel"."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {".".join(map(str, path)): param[...] for path, param in flat}


def parameters_to_dict(model: nnx.Module) -> dict[str, np.ndarray]:
    """Returns `get_params` as NumPy arrays."""
    return {name: np.asarray(value) for name, value in get_params(model).items()}


def model_from_parameters(config: ModelConfig, parameters: dict[str, np.ndarray]) -> ISRResCNet:
    """Builds a model from the arrays that `parameters_to_dict` returned; half precision becomes float32.

    Raises:
      ValueError: If an array is missing, unknown, misshapen, or holds what is no finite real number.
    """
    abstract = nnx.eval_shape(lambda: ISRResCNet(config, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(abstract)
    flat = {".".join(map(str, path)): (path, param) for path, param in nnx.to_flat_state(state)}
    problems = [f"{name} is missing" for name in sorted(set(flat) - set(parameters))]
    problems += [f"{name} is unknown" for name in sorted(set(parameters) - set(flat))]
    problems += [
        f"{name} has shape {parameters[name].shape}, not {flat[name][1].shape}"
        for name in sorted(set(flat) & set(parameters))
        if tuple(parameters[name].shape) != tuple(flat[name][1].shape)
    ]
    problems += [
        f"{name} holds {'numbers that are not finite' if array.dtype.kind == 'f' else array.dtype}"
        for name, array in sorted(parameters.items())
        if array.dtype.kind != "f" or not np.isfinite(array).all()
    ]
    if problems:
        more = [f"and {len(problems) - 5} more"] if len(problems) > 5 else []
        raise ValueError("; ".join([*problems[:5], *more]))
    for name, (_, param) in flat.items():
        param.set_value(jnp.asarray(parameters[name], jnp.float32))
    return nnx.merge(graph, state)


def save_model(
    path: str | os.PathLike,
    model: ISRResCNet,
    metadata: dict[str, Any] | None = None,
    *,
    dtype: type[np.floating] = np.float32,
) -> None:
    """Writes the model to one file, beside and then renamed, so that a half-written file never replaces a whole one.

    Args:
      path: Where to; its folder is made if need be.
      model: What to write.
      metadata: Provenance (anything JSON holds), readable by `read_metadata`.
      dtype: Of the numbers in the file. Half precision halves it; numbers beyond 65,504 have none.
    """
    path = Path(path)
    text = {"format": "isr_jax", "kind": KIND, "version": str(VERSION), "written_by": f"isr_jax {package_version()}"}
    text["config"] = json.dumps(config_to_dict(model.config))
    text |= {key: json.dumps(value) for key, value in (metadata or {}).items()}
    parameters = {name: value.astype(dtype) for name, value in parameters_to_dict(model).items()}
    data = tensor_file.encode_tensors(parameters, text)
    replace_file(path, lambda temporary: temporary.write_bytes(data))


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Returns what a model file says of itself: its "config", and its provenance.

    Raises:
      UserError: If it is not a model file of this package.
    """
    try:
        text = tensor_file.read_metadata(path)
        if text.get("format") != "isr_jax":
            raise UserError(
                f"{path} is a safetensors file, but not an isr_jax model: convert it first (isr-jax convert)"
            )
        kind, number = text.get("kind", KIND), int(text.get("version", 1))
        if kind != KIND or number > VERSION:
            reader = text.get("written_by", "a newer isr_jax")
            if reader == f"isr_jax {package_version()}":  # of the same name, but a later state of it
                reader = f"a newer {reader}"
            raise UserError(
                f'{path} is a model of kind "{kind}", version {number}, which this is too old for (isr_jax'
                f" {package_version()}): {reader} reads it"
            )
        metadata = {key: json.loads(value) for key, value in text.items() if key not in _HEADER}
        if not isinstance(config := metadata.get("config", {}), dict):
            raise ValueError("its configuration is none")
        if number == 1 and config:
            metadata["config"] = _from_version_1(config)
        return metadata
    except (ValueError, OSError, RecursionError) as error:
        remedy = "name a .safetensors file of isr_jax; weights of PyTorch need isr-jax convert"
        raise UserError(f"{path} is not a model file ({error}): {remedy}") from error


def _from_version_1(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration as it is written now."""
    config = dict(config)
    if "erd" in config:
        config["prior"] = config.pop("erd")
    physics = config.pop("data_term", None)
    aligned = config.pop("align_corners", False)
    if physics is not None:
        config["physics"] = "bicubic" if physics == "matlab_bicubic" else f"{physics}{'_aligned' if aligned else ''}"
    return config


def describe_model(model: str | os.PathLike) -> ISRResCNet:
    """Returns a model without its numbers: its configuration, and what follows from it.

    Raises:
      ConfigError: If there is no such model.
      UserError: If the file is not a model of this package.
    """
    path = find_model(model)
    try:
        config = config_from_dict(ModelConfig, read_metadata(path)["config"])
        return nnx.eval_shape(lambda: ISRResCNet(config, rngs=nnx.Rngs(0)))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} has no usable configuration ({error}): make it again") from error


def load_model(model: str | os.PathLike) -> ISRResCNet:
    """Loads a model by its shipped name, its file, or the run folder that holds it.

    Raises:
      ConfigError: If there is no such model.
      UserError: If the file is not a model of this package, or is damaged.
    """
    path = find_model(model)
    metadata = read_metadata(path)
    try:
        config = config_from_dict(ModelConfig, metadata["config"])
        arrays, _ = tensor_file.decode_tensors(path.read_bytes())
        return model_from_parameters(config, {re.sub(r"^erd\.", "prior.", name): a for name, a in arrays.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not fit its own configuration ({error}): make it again") from error
