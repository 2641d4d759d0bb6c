"""Reading a command's arguments into a dataclass, with errors of one line."""

import contextlib
import io
import re
from typing import Any, TypeVar

import tyro

from isr_jax.config import ConfigError

T = TypeVar("T")


def parse_arguments(
    cls: type[T], argv: list[str] | None, *, prog: str, description: str, default: T | None = None
) -> T:
    """Builds the dataclass `cls` from a command line.

    Args:
      cls: Its fields are the arguments; their docstrings are the help.
      argv: The arguments behind the command's name; None for those of the process.
      prog: How the command is called, for the help.
      description: What it does, for the help.
      default: Where the values of arguments that are not given come from, instead of the fields' own defaults.
    Raises:
      ConfigError: If an argument is unknown, missing, or of the wrong type; one line.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given: dict[str, Any] = {} if default is None else {"default": default}
            return tyro.cli(cls, args=argv, prog=prog, description=description, **given)
    except SystemExit as end:
        if not end.code:
            raise
    # Tyro draws a box of several lines.
    text = re.sub(r"[\u2500-\u257f\s]+", " ", said.getvalue()).strip()
    message = re.sub(r"^(Unrecognized options|Required options|Value error|Parsing error) ", "", text)
    raise ConfigError(f"{message.split(' For full helptext')[0]} (see {prog} --help)")
