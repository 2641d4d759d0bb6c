"""What all configurations share: errors, and checks by annotation."""

import dataclasses
import difflib
import functools
import math
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal


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
