"""A suite of benchmarks, one TOML file: methods x sets x physics x scales, and what they are scored by.

    title = "Shipped models"
    sets = ["Set5", "Set14"]                   # folders, below this file or --data
    scales = [2, 3, 4]
    physics = ["bicubic", "blur=1.6,noise=5"]  # as --degradation; bicubic: LR files, or MATLAB's reduction
    measures = ["psnr_y", "ssim_y"]
    baseline = "isr-lite"                      # what the others' differences are to

    [[methods]]
    name = "isr-lite"
    model = "isr-lite-x{scale}"                # a shipped name, a model file, a run folder, or bicubic

    [[methods]]
    name = "theirs"
    outputs = "theirs/{set}/x{scale}"          # a folder of results; or files: "theirs/x{scale}/{name}_SR.png"
    scales = [4]

What is left out has the default of `SuiteConfig` and `MethodConfig`.
"""

import json
import string
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from isr_jax.config.checks import Config, ConfigError, Count, did_you_mean
from isr_jax.config.dictionaries import config_from_dict

T = TypeVar("T")

BICUBIC = "bicubic"
"""The physics of the protocol, and the model that is bicubic enlargement."""

_PLACES = {"model": ("scale",), "outputs": ("set", "scale", "physics", "name")}


@dataclass(frozen=True, kw_only=True)
class MethodConfig(Config):
    """What is scored: a model, or results that another program made."""

    name: str = ""
    """What tables call it."""
    model: str = ""
    """A shipped name, a model file, a run folder, or bicubic; {scale} stands for the scale."""
    outputs: str = ""
    """Instead of a model: a folder of results, called as the pictures are; {set}, {scale}, {physics} and, in the path
    of a file, {name} stand for what is scored."""
    ensemble: bool = False
    """Average over the eight flips and rotations of each picture."""
    num_stages: int | None = None
    """Stop the solver after so many stages."""
    scales: tuple[Count, ...] = ()
    """Those of the suite at which it is scored; all by default."""

    def __post_init__(self) -> None:
        """Checks all fields.

        Raises:
          ConfigError: If one cannot be used.
        """
        super().__post_init__()
        if not self.name or self.name.startswith(".") or {"/", "\0"} & {*self.name}:
            raise ConfigError(f"name is {self.name!r}; give one that a folder can have, which tables call it by")
        if self.name == BICUBIC != self.model:
            raise ConfigError(f"name is {self.name!r}, which is that of bicubic enlargement: call it otherwise")
        if bool(self.model) == bool(self.outputs):
            raise ConfigError('give it a model, or outputs = "a folder of results", one of the two')
        if self.outputs and (self.ensemble or self.num_stages):
            raise ConfigError("ensemble and num_stages are a model's: leave them out beside outputs")
        for field, places in _PLACES.items():
            for place in _places_in(field, getattr(self, field)):
                if place not in places:
                    known = " and ".join(f"{{{known}}}" for known in places)
                    raise ConfigError(f"{field} has {{{place}}}{did_you_mean(place, places)}; there is {known}")


@dataclass(frozen=True, kw_only=True)
class SuiteConfig(Config):
    """What a suite scores; see the top of this module."""

    title: str = "Benchmark"
    methods: tuple[MethodConfig, ...] = ()
    sets: tuple[str, ...] = ()
    scales: tuple[Count, ...] = ()
    physics: tuple[str, ...] = (BICUBIC,)
    measures: tuple[str, ...] = ("psnr_y", "ssim_y")
    baseline: str = ""
    """The method that the others are compared to; the first by default."""

    def __post_init__(self) -> None:
        """Checks all fields.

        Raises:
          ConfigError: If one cannot be used.
        """
        super().__post_init__()
        for field, example in (
            ("methods", "[[methods]]"),
            ("sets", 'sets = ["Set5"]'),
            ("scales", "scales = [4]"),
            ("physics", f'physics = ["{BICUBIC}"], or leave it out'),
        ):
            if not getattr(self, field):
                raise ConfigError(f"{field} is missing: write {example}")
        names = [method.name for method in self.methods]
        for field in ("methods", "sets", "scales", "physics"):
            values = names if field == "methods" else getattr(self, field)
            if twice := [value for value in values if values.count(value) > 1]:
                raise ConfigError(f"{field} has {twice[0]} twice: leave one out, or call one otherwise")
        for index, method in enumerate(self.methods):
            if unknown := [scale for scale in method.scales if scale not in self.scales]:
                raise ConfigError(f"methods[{index}].scales has {unknown[0]}; scales of the suite are {self.scales}")
            scored = {"scale": method.scales or self.scales, "set": self.sets, "physics": self.physics}
            for place, several in scored.items():
                if method.outputs and len(several) > 1 and f"{{{place}}}" not in method.outputs:
                    raise ConfigError(f"methods[{index}].outputs is the same for each {place}: put {{{place}}} into it")
        if self.baseline and self.baseline not in names:
            nearest = did_you_mean(self.baseline, names)
            raise ConfigError(f"baseline is {self.baseline!r}{nearest}; the methods are {', '.join(names)}")


def read_suite(path: Path) -> SuiteConfig:
    """Reads a suite from its TOML file.

    Raises:
      ConfigError: If there is no such file, or it holds none; one line that names the field.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None
    try:
        methods = values.get("methods", [])
        if not isinstance(methods, list) or not all(isinstance(method, dict) for method in methods):
            raise ConfigError("methods must be tables: write [[methods]] above each")
        made = tuple(_read_method(index, method) for index, method in enumerate(methods))
        return _from_toml(SuiteConfig, {**values, "methods": made})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _read_method(index: int, values: dict[str, Any]) -> MethodConfig:
    try:
        return _from_toml(MethodConfig, values)
    except ConfigError as error:
        label = f" ({values['name']})" if isinstance(values.get("name"), str) else ""
        raise ConfigError(f"methods[{index}]{label}: {error}") from None


def _from_toml(cls: type[T], values: dict[str, Any]) -> T:
    for name, value in values.items():
        if name in ("sets", "scales", "physics", "measures") and not isinstance(value, list):
            raise ConfigError(f"{name} is {value!r}; it must be a list, as {name} = [{json.dumps(value, default=str)}]")
    return config_from_dict(cls, values)


def _places_in(field: str, text: str) -> list[str]:
    try:
        parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(f"{field} is {text!r}; it has a brace without its other one ({error})") from None
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ConfigError(f"{field} is {text!r}; between braces there is a name alone")
    return [str(place) for _, place, _, _ in parts]
