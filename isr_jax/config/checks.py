"""What all configurations share: errors, checks by annotation, dictionaries, and building what they describe."""

import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import json
import math
import os
import re
import sys
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Something the user can mend: one line that names the file or field and the remedy. Commands exit with 1.

    Examples:
      >>> try:
      ...     isr_jax.read_image("absent.png")
      ... except isr_jax.UserError as error:
      ...     print(error)
      absent.png: No such file or directory
    """


class ConfigError(UserError, ValueError):
    """A command line or configuration that cannot be used. Commands exit with 2.

    Examples:
      >>> isr_jax.Bicubic(0)
      Traceback (most recent call last):
      isr_jax.config.checks.ConfigError: Bicubic has the scale 0; it must be a whole number of at least 1
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns " (did you mean X?)" for the known word that is most like one that is not, or "" if none is."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


@dataclass(frozen=True)
class Within:
    """Range of a number, as an annotation: Annotated[float, Within(0, 1)]."""

    least: float | int = -math.inf
    most: float | int = math.inf
    open_least: bool = False
    """Whether `least` itself is out of the range."""
    open_most: bool = False
    """Whether `most` itself is out of the range."""

    def holds(self, value: float | int) -> bool:
        """Whether a value lies in the range."""
        above = value > self.least if self.open_least else value >= self.least
        return above and (value < self.most if self.open_most else value <= self.most)

    def __str__(self) -> str:
        ends = []
        if self.least > -math.inf:
            ends.append(f"greater than {self.least}" if self.open_least else f"at least {self.least}")
        if self.most < math.inf:
            ends.append(f"less than {self.most}" if self.open_most else f"at most {self.most}")
        return " and ".join(ends)


@dataclass(frozen=True)
class Every:
    """How often something is done, as an annotation: every so many steps (an int), or once in a time, as "60s"."""

    def holds(self, value: int | str) -> bool:
        """Whether a value is an interval."""
        return value >= 1 if isinstance(value, int) else bool(_TIME.fullmatch(value)) and interval_seconds(value) > 0

    def __str__(self) -> str:
        return "a whole number of steps, at least 1, or a time, as 60s, 10min or 1h"


_TIME = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h)")


def interval_seconds(text: str) -> float:
    """Returns the seconds of an interval of time, as "60s", "1.5min" or "1h"."""
    number, unit = _TIME.fullmatch(text).groups()  # pyright: ignore[reportOptionalMemberAccess] - checked by `Every`
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


Interval = Annotated[int | str, Every()]
Count = Annotated[int, Within(1)]
Natural = Annotated[int, Within(0)]
MOST_STEPS = 2**31 - 1
"""Of a training: they are counted in 32 bits."""
Steps = Annotated[int, Within(0, MOST_STEPS)]
Positive = Annotated[float, Within(0, open_least=True)]
NotNegative = Annotated[float, Within(0)]
Fraction = Annotated[float, Within(0, 1)]
Decay = Annotated[float, Within(0, 1, open_most=True)]


class Config:
    """Base of all configurations: frozen dataclasses whose fields are checked by their annotations when made."""

    group: ClassVar[str] = ""
    """What errors put before a field's name, as "data.": how the command line spells it."""
    removed: ClassVar[dict[str, str]] = {}
    """Fields that there were, and what an error says of them."""

    def __post_init__(self) -> None:
        """Checks every field by its annotation.

        Raises:
          ConfigError: If a value is not of its field's type or range.
        """
        for name, hint in _hints(type(self)).items():
            value = _checked(f"{self.group}{name}", getattr(self, name), hint)
            object.__setattr__(self, name, value)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _checked(name: str, value: Any, hint: Any) -> Any:
    """Returns the value as its field's type: a whole number as a float where that is meant, a list as a tuple."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        value = _checked(name, value, arguments[0])
        for limits in arguments[1:]:
            if isinstance(limits, Within | Every) and not limits.holds(value):
                number = "a whole number of " if arguments[0] is int else ""
                raise ConfigError(f"{name} is {value!r}; it must be {number}{limits}")
        return value
    if origin is types.UnionType:  # the only ones: or None, or a text
        return value if type(value) in arguments[1:] else _checked(name, value, arguments[0])
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, tuple | list):  # the letters of a string would be taken for its elements
            raise ConfigError(f"{name} is {value!r}; it must be a tuple, as ({value!r},)")
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(value):
            raise ConfigError(f"{name} is {value!r}; it must have {len(kinds)} values")
        return tuple(_checked(name, v, kind) for v, kind in zip(value, kinds, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        kinds = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
        raise ConfigError(f"{name} is {value!r}; it must be {kinds.get(hint, hint.__name__)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}; it must be a finite number")
    return value


# ---------------------------------------------------------------------------------------------------------------------
# Dictionaries, as JSON stores them.
# ---------------------------------------------------------------------------------------------------------------------

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


# ---------------------------------------------------------------------------------------------------------------------
# Names of what a configuration describes. They are looked up when it is built, so that nothing heavy is imported here.
# ---------------------------------------------------------------------------------------------------------------------


def locate(name: str, field: str) -> Any:
    """Imports what "module:Name" names.

    Args:
      name: The module, a colon, and the name in it.
      field: What to call it in an error.
    Raises:
      ConfigError: If there is no such module, or nothing of that name in it.
    """
    module, _, attribute = name.partition(":")
    _look_here(module)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        remedy = "name it as module:Name, of a package that is installed or a file in this folder"
        raise ConfigError(f"{field} is {name!r}, which cannot be imported ({error}); {remedy}") from error


def _look_here(module: str) -> None:
    """Lets a module of the current folder be found, behind what is installed, as "python -m" and no command does."""
    if not module.startswith("isr_jax.") and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def source_digest(name: str) -> str:
    """Returns a hash of the text of the module in "module:Name", "" where it has none: it changes with what it does."""
    module = name.partition(":")[0]
    _look_here(module)
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None or not Path(found.origin).is_file():
        return ""
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()[:16]


def locate_in(name: str, home: str, field: str) -> Any:
    """Returns the function `name` of the module `home`, or what "module:Name" names anywhere else."""
    check_name(name, home, field)
    return locate(name if ":" in name else f"{home}:{name}", field)


def check_name(name: str, home: str, field: str) -> None:
    """Raises unless `name` is a function of `home` that takes a config or a scale, or written as "module:Name".

    Nothing is imported: the functions are read off the module's text.

    Raises:
      ConfigError: If it is neither.
    """
    if ":" not in name and name not in (known := _functions(home)):
        nearest, names = did_you_mean(name, known), ", ".join(known)
        raise ConfigError(f"{field} is {name!r}{nearest}; choose one of {names}, or your own as module:function")


@functools.cache
def _functions(home: str) -> list[str]:
    spec: Any = importlib.util.find_spec(home)
    text = Path(spec.origin).read_text(encoding="utf-8")
    return re.findall(r"^def ([a-z]\w*)\((?:config|scale)\b", text, re.MULTILINE)
