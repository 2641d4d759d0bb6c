"""Configurations as dictionaries, as JSON stores them."""

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from isr_jax.config.checks import Config, ConfigError, did_you_mean
from isr_jax.config.names import locate

T = TypeVar("T")

TYPE = "type"
"""Key under which a dictionary names the class of a configuration that is not its field's own, as module:Class."""


def config_to_dict(config: Any) -> dict[str, Any]:
    """Returns the configuration as nested dicts, lists and scalars, as JSON stores it.

    Examples:
      >>> from isr_jax.config import EvalConfig, config_to_dict
      >>> config_to_dict(EvalConfig(data=("Set5",), every="10min"))
      {'data': ['Set5'], 'every': '10min', 'log_every': 50}
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Config):
            return config_to_dict(value)
        return [plain(v) for v in value] if isinstance(value, tuple | list) else value

    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        values[field.name] = plain(value)
        if isinstance(value, Config) and type(value) is not field.default_factory:
            values[field.name][TYPE] = f"{type(value).__module__}:{type(value).__qualname__}"
    return values


def config_from_dict(cls: type[T], values: dict[str, Any], prefix: str = "") -> T:
    """Builds the configuration `cls` from what `config_to_dict` returned.

    Args:
      cls: The class.
      values: By the names of its fields; those that are absent have their defaults.
      prefix: What errors put before a field's name.
    Raises:
      ConfigError: If a field is unknown, or a value is not of its field's type or range.
    Examples:
      >>> from isr_jax.config import ModelConfig, config_from_dict
      >>> config_from_dict(ModelConfig, {"scale": 3, "prior": {"features": 32}}).prior.features
      32
    """
    defaults: dict[str, Any] = {field.name: field.default_factory for field in dataclasses.fields(cls)}  # pyright: ignore
    unknown = sorted(set(values) - set(defaults))
    for name in unknown:
        if said := getattr(cls, "removed", {}).get(name):
            raise ConfigError(f"{prefix}{name} {said}")
    if unknown:
        known, nearest = ", ".join(defaults), did_you_mean(unknown[0], defaults)
        raise ConfigError(f"unknown field {', '.join(prefix + u for u in unknown)}{nearest}; the fields are {known}")
    kwargs: dict[str, Any] = {}
    for name, value in values.items():
        kind = defaults[name]
        if isinstance(kind, type) and issubclass(kind, Config) and isinstance(value, dict):
            kind = locate(value[TYPE], f"{prefix}{name}.{TYPE}") if TYPE in value else kind
            value = config_from_dict(kind, {k: v for k, v in value.items() if k != TYPE}, f"{prefix}{name}.")
        kwargs[name] = tuple(value) if isinstance(value, list) else value
    return cls(**kwargs)


def read_config(cls: type[T], path: Path) -> T:
    """Reads a configuration from a JSON file of what `config_to_dict` returned.

    Raises:
      ConfigError: If there is no such file, or it does not hold one.
    Examples:
      >>> from pathlib import Path
      >>> from isr_jax.config import TrainConfig, read_config
      >>> _ = Path("config.json").write_text('{"steps": 100, "model": {"scale": 2}}')
      >>> read_config(TrainConfig, Path("config.json")).model.scale
      2
    """
    try:
        return config_from_dict(cls, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        remedy = ": name a run folder, which holds one" if path.name == "config.json" else ""
        raise ConfigError(f"{path}: cannot be read ({error.strerror}){remedy}") from None
    except (ConfigError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a configuration that this isr_jax reads ({error})") from None
