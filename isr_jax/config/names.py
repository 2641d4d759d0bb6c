"""Names of what a configuration describes, "module:Name" for a part of one's own.

They are looked up when it is built, so that nothing heavy is imported here. What fails in a part of one's own is told
in one line, with the place in its file.
"""

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from isr_jax.config.checks import ConfigError, UserError, did_you_mean


def locate(name: str, field: str) -> Any:
    """Imports what "module:Name" names.

    Args:
      name: The module, a colon, and the name in it.
      field: What to call it in an error.
    Raises:
      ConfigError: If there is no such module, or nothing of that name in it, or it fails.
    """
    module, _, attribute = name.partition(":")
    _look_here(module)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        remedy = "name it as module:Name, of a package that is installed or a file in this folder"
        raise ConfigError(f"{field} is {name!r}, which cannot be imported ({error}); {remedy}") from error
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{field} is {name!r}, which fails when it is imported: {_failure(error, module)}") from error


@contextlib.contextmanager
def running(name: str, field: str) -> Iterator[None]:
    """While what "module:Name" names runs: what it raises becomes one line; of the package's own parts it is a bug.

    Args:
      name: As `locate` takes it, or the name of a part of the package.
      field: What to call it in an error.
    Raises:
      ConfigError: What it raised, and in which line of its file.
      UserError: If that is what it raised.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not _is_ones_own(name):
            raise
        raise ConfigError(f"{field} is {name!r}, which fails: {_failure(error, name.partition(':')[0])}") from error


def _is_ones_own(name: str) -> bool:
    return ":" in name and not name.startswith("isr_jax.")


def _failure(error: BaseException, module: str) -> str:
    """Returns an error in one line, with the last line of the module's file that it passed."""
    said = str(error).strip().splitlines()
    words = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).stem == module.rpartition(".")[2]]
    return f"{words} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else words


def returning_a_number(function: Any, name: str, field: str) -> Callable[..., Any]:
    """Returns a function that "module:Name" names, or made; while it runs, and of what it returns, errors are one line.

    Args:
      function: What is to return a real number, in Python or traced.
      name: As for `running`; functions of the package are returned as they are.
      field: What to call it in an error.
    Raises:
      ConfigError: If it is no function.
    """
    if not _is_ones_own(name):
        return function
    if not callable(function):
        raise ConfigError(f"{field} is {name!r}, which makes {function!r:.80}; it must make a function")

    def checked(*arguments: Any) -> Any:
        with running(name, field):
            value = function(*arguments)
        check_number(value, name, field, whole=False)
        return value

    return checked


def check_number(value: Any, name: str, field: str, *, whole: bool = True) -> None:
    """Raises unless what "module:Name" returned is a real number, of Python, NumPy or JAX, traced or not.

    Args:
      value: What it returned.
      name: Of the part.
      field: What to call it in an error.
      whole: Whether an array's whole number serves.
    Raises:
      ConfigError: If it is none.
    """
    shape, kind = getattr(value, "shape", None), str(getattr(value, "dtype", ""))
    kinds = ("float", "bfloat", "int", "uint") if whole else ("float", "bfloat")
    if isinstance(value, int | float) or (shape == () and kind.startswith(kinds)):
        return
    what = f"an array of shape {shape}" if shape else kind or f"{value!r:.80}"
    wanted = "one real number" if whole else "one real number of floating point"
    raise ConfigError(f"{field} is {name!r}, which returns {what}; it must return {wanted}")


def _look_here(module: str) -> None:
    """Lets a module of the current folder be found, behind what is installed, as "python -m" and no command does."""
    if not module.startswith("isr_jax.") and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def own_parts(values: Any) -> Iterator[str]:
    """Yields every "module:Name" in a configuration as JSON stores it, but for the package's own."""
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from own_parts(value)
    elif isinstance(values, str) and re.fullmatch(r"[\w.]+:\w+", values) and _is_ones_own(values):
        yield values


def source_digest(name: str) -> str:
    """Returns a hash of the text of the module in "module:Name", "" where it has none: it changes with what it does."""
    module = name.partition(":")[0]
    _look_here(module)
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # of a package that is not there
        return ""
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
