"""What a model's file knows, in words."""

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from typing import Any

import jax

from isr_jax.config import ModelConfig
from isr_jax.config.checks import Config
from isr_jax.models import tensor_file
from isr_jax.models.model_file import describe_model, find_model, load_model, read_metadata, shipped_models
from isr_jax.physics.names import make_physics, needs_kernel
from isr_jax.solver.unrolled import ISRResCNet

Facts = dict[str, str]
"""By their names, in the order in which they are told."""

_PURPOSES = {
    "bicubic": "clean pictures that were reduced by bicubic interpolation",
    "blur": "pictures whose blur and noise are known",
    "none": "pictures of which nothing is known",
    "released_bicubic": "clean pictures that were reduced by bicubic interpolation, as the released code",
}


def purpose(name: str, config: ModelConfig) -> str:
    """Returns what a model is for."""
    text = _PURPOSES.get(config.physics, f"pictures that were made by {config.physics}")
    if name.startswith("isr-blind"):
        text = "pictures whose blur is estimated"
    return f"{text}; trained on free licences alone" if name.endswith("-free") else text


def count_parameters(model: ISRResCNet) -> int:
    """Returns how many numbers were learned."""
    return sum(leaf.size for leaf in jax.tree.leaves(model))


def scales_in_words(scales: tuple[int, ...]) -> str:
    """Returns scales as "x2, x3"."""
    return ", ".join(f"x{scale}" for scale in scales)


@dataclass(frozen=True, kw_only=True)
class ShippedModel:
    """A model that comes with the package."""

    name: str
    """What `isr_jax.load` and the command line call it."""
    scales: tuple[int, ...]
    """Its super-resolution factors."""
    physics: str
    """The observation that it was made for, a name of `isr_jax.physics.names`."""
    num_parameters: int
    """How many numbers were learned."""
    purpose: str
    """What pictures it is for, in words."""


def list_models() -> tuple[ShippedModel, ...]:
    """Returns the models that come with the package, those trained on free photographs alone first.

    Examples:
      >>> [model.scales for model in isr_jax.list_models() if model.name == "isr-lite-x4"]
      [(4,)]
    """
    return tuple(
        ShippedModel(
            name=name,
            scales=model.config.all_scales,
            physics=model.config.physics,
            num_parameters=count_parameters(model),
            purpose=purpose(name, model.config),
        )
        for name, model in ((name, describe_model(name)) for name in shipped_models())
    )


def describe(model: str | os.PathLike) -> Facts:
    """Returns all that is known of a model: what follows from its configuration, and what its file says.

    Args:
      model: A shipped name, a model file, or a run folder.
    Raises:
      ConfigError: If there is no such model.
      UserError: If the file is not a model.
    """
    path = find_model(model)
    metadata, network = read_metadata(path), load_model(path)  # and not described alone: it may be damaged
    config, data, text = network.config, path.read_bytes(), tensor_file.read_metadata(path)
    name = path.stem if path.stem in shipped_models() else str(model)
    macs = network.macs_per_pixel()
    reach = None if needs_kernel(config.physics) else network.reach(make_physics(config.physics, scale=config.scale))
    facts = {
        "model": str(model),
        "file": f"{path} ({len(data):,} bytes)",
        "sha256": hashlib.sha256(data).hexdigest(),
        "written by": text.get("written_by", "an early isr_jax"),
        "for": purpose(name, config),
        "scale": scales_in_words(config.all_scales),
        "physics": config.physics,
        "wants to know": _wanted(network),
        "parameters": f"{count_parameters(network):,}",
        "multiply-adds": f"{macs:,.0f} per pixel of the result",
        "sees": "the whole picture" if reach is None else f"{reach} LR pixels to each side",
    }
    facts |= {f"model.{key}": value for key, value in _changes(config, ModelConfig())}
    for key, value in metadata.items():
        if key != "config":
            facts[key.replace("_", " ")] = _in_words(value)
    return facts


def _wanted(model: ISRResCNet) -> str:
    wanted = ["the blur"] if needs_kernel(model.config.physics) else []
    if model.uses_noise_std:
        wanted.append("the noise level, or estimates it")
    if model.uses_error_std:
        wanted.append("the quality of a JPEG file")
    return " and ".join(wanted) or "nothing"


def _changes(config: Any, default: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Returns the fields that differ from the defaults, by their names on a command line."""
    changes: list[tuple[str, str]] = []
    for field in dataclasses.fields(config):
        value, usual = getattr(config, field.name), getattr(default, field.name, None)
        if isinstance(value, Config):
            changes += _changes(value, usual, f"{prefix}{field.name}.")
        elif value != usual:
            changes.append((f"{prefix}{field.name}", str(value)))
    return changes


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_in_words(v)}" for key, v in value.items())
    return "; ".join(map(_in_words, value)) if isinstance(value, list) else str(value)
