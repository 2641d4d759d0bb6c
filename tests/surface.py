"""The public surface as text: what test_surface.py compares with tests/surface.txt and docs/reference/surface.md.

python tests/surface.py      # writes both anew, after a change that is meant
"""

import dataclasses
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import isr_jax
import isr_jax.config

ROOT = Path(__file__).parents[1]
LIST, PAGE = ROOT / "tests" / "surface.txt", ROOT / "docs" / "reference" / "surface.md"
RESULTS = (
    "benchmark.rows:Benchmark",
    "benchmark.rows:Row",
    "benchmark.rows:Scores",
    "benchmark.rows:Cost",
    "inference.estimate:FoundJpeg",
    "models.description:ShippedModel",
    "training.loop:Run",
)
"""What public functions return that has no public name: to be read, not made."""


def public() -> dict[str, Any]:
    """Returns the public objects by their full names; those of isr_jax.config that isr_jax names, too, once."""
    names = {f"isr_jax.{name}": getattr(isr_jax, name) for name in sorted(isr_jax.__all__)}
    own = sorted(set(isr_jax.config.__all__) - set(isr_jax.__all__))
    return names | {f"isr_jax.config.{name}": getattr(isr_jax.config, name) for name in own}


def results() -> dict[str, Any]:
    """Returns the records of `RESULTS` by their names."""
    split = [result.split(":") for result in RESULTS]
    return {name: getattr(importlib.import_module(f"isr_jax.{module}"), name) for module, name in split}


def surface() -> str:
    """Returns names, signatures and members, one a line."""
    named = [line for name, value in public().items() for line in _lines(name, value)]
    read = [line for name, value in results().items() for line in _call(name, value)]
    return "\n".join([*named, *read]) + "\n"


def table(since: dict[str, str]) -> str:
    """Returns the table of the page.

    Args:
      since: The version that had a name first; of names without one it is the version in pyproject.toml.
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    rows = ["| name | what it is | since |", "| --- | --- | --- |"]
    for name, value in public().items():
        sentence = " ".join(inspect.cleandoc(value.__doc__).split("\n\n")[0].split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {sentence} | {since.get(name, version)} |")
    return "\n".join(rows) + "\n"


def since_of(page: str) -> dict[str, str]:
    """Returns the version of each name on the page."""
    return dict(re.findall(r"^\| `([\w.]+)` \|.*\| ([\w.]+) \|$", page, re.MULTILINE))


def with_table(page: str) -> str:
    """Returns the page with the table that belongs to the code."""
    return re.sub(r"\| name .*?\n(?=\n|\Z)", lambda _: table(since_of(page)), page, flags=re.DOTALL)


def _lines(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value) and issubclass(value, Exception):
        yield f"{name}({value.__mro__[1].__name__})"
        return
    yield from _call(name, value)
    if not inspect.isclass(value):
        return
    fields = {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
    inherited = {key for cls in value.__mro__[1:] if _ours(cls) for key in _own(cls)}
    for key, member in sorted(_own(value).items()):
        hidden = key.startswith("_") and key not in ("__call__", "__matmul__")
        if hidden or key in fields or key in inherited:
            continue
        if isinstance(member, FunctionType) and not _ours(member):
            continue  # which Flax adds
        yield f"{name}.{key}" + (_signature(member) if isinstance(member, FunctionType) else "")


def _call(name: str, value: Any) -> Iterator[str]:
    """Yields how it is called; of records, whose fields are named, each field on a line of its own."""
    arguments = _signature(value)
    if not dataclasses.is_dataclass(value) or not arguments.startswith("(*, "):
        yield name + arguments
        return
    yield f"{name}(*)"
    for argument in inspect.signature(value.__init__).parameters.values():
        if argument.name != "self":
            yield f"{name}(*, {argument.replace(annotation=inspect.Parameter.empty)})"


def _own(cls: type) -> dict[str, Any]:
    """Returns what a class itself has, and what it says that it has."""
    return dict.fromkeys(inspect.get_annotations(cls)) | dict(vars(cls))


def _ours(value: Any) -> bool:
    return value.__module__.startswith("isr_jax.")


def _signature(value: Any) -> str:
    """Returns names and defaults of the arguments, without types: those are long, and change without harm."""
    signature = inspect.signature(value.__init__ if inspect.isclass(value) else value)
    plain = [argument.replace(annotation=inspect.Parameter.empty) for argument in signature.parameters.values()]
    plain = plain[1:] if inspect.isclass(value) else plain
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


if __name__ == "__main__":
    LIST.write_text(surface(), encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
