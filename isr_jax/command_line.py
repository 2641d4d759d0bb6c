"""Reading a command's arguments into a dataclass, with errors of one line.

By tyro, or where that is not installed, by the standard library; both read the same command lines.
"""

import argparse
import ast
import contextlib
import dataclasses
import inspect
import io
import itertools
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from isr_jax.config import ConfigError
from isr_jax.config.checks import did_you_mean

try:
    import tyro
    from tyro.conf import Positional, arg
except ModuleNotFoundError:
    tyro = None
    Positional: Any = "positional"
    arg: Any = types.SimpleNamespace

__all__ = ["Positional", "arg", "parse_arguments"]
"""`Positional` and `arg(metavar=..., aliases=...)` annotate a command's fields, as in Annotated[Path, Positional]."""

T = TypeVar("T")

_asked: list[argparse.ArgumentParser] | None = None
"""Where parsers go while `parser_of` asks for one."""


class _Asked(Exception):
    """Leaves a command that was asked for its parser alone."""


def parser_of(main: Callable[[list[str]], Any]) -> argparse.ArgumentParser:
    """Returns the arguments of a command as a parser of the standard library; nothing else of the command runs."""
    global _asked
    _asked = []
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main(["--help"])
    except _Asked:
        return _asked.pop()
    finally:
        _asked = None
    raise TypeError(f"{main.__module__} reads no command line")


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
    if _asked is not None:
        _asked.append(_make_parser(cls, prog, description, default))
        raise _Asked
    if tyro is None:
        return _parse_plainly(cls, argv, prog=prog, description=description, default=default)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given: dict[str, Any] = {} if default is None else {"default": default}
            return tyro.cli(cls, args=argv, prog=prog, description=description, **given)
    except SystemExit as end:
        if not end.code:
            raise
    # Tyro draws a box of several lines; the plain reader says in one what is wrong.
    _parse_plainly(cls, argv, prog=prog, description=description, default=default)
    text = re.sub(r"[\u2500-\u257f\s]+", " ", said.getvalue()).strip()
    raise ConfigError(f"{text.split(' For full helptext')[0]} (see {prog} --help)")


# ---------------------------------------------------------------------------------------------------------------------
# Without tyro.
# ---------------------------------------------------------------------------------------------------------------------


def _parse_plainly(cls: type[T], argv: list[str] | None, *, prog: str, description: str, default: T | None = None) -> T:
    """Does what `parse_arguments` does with the standard library alone."""
    parser = _make_parser(cls, prog, description, default)
    words = [_hyphens(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        parser.refuse_unknown(words)
        return _build(cls, default, vars(parser.parse_args(words)), "")
    except ConfigError:  # the values are read and do not fit
        raise
    except ValueError as error:
        raise ConfigError(f"{error} (see {prog} --help)") from None


def _make_parser(cls: type, prog: str, description: str, default: Any) -> "_Parser":
    usage = "%(prog)s [-h] [OPTION ...]"
    parser = _Parser(prog, usage, description, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    _add_fields(parser, parser, cls, default, "")
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    def refuse_unknown(self, words: list[str]) -> None:
        """Raises for the first option that there is not, before anything is said to be missing."""
        for word in itertools.takewhile(lambda word: word != "--", words):
            name, known = word.partition("=")[0], self._option_string_actions
            if re.match(r"--?[a-zA-Z]", name) and name not in known and name[:2] not in known:
                remedy = f": write ./{word} for the file" if Path(word).exists() else did_you_mean(name, known)
                raise ValueError(f"there is no option {name}{remedy}")


class _Switch(argparse.Action):
    """A flag of two spellings, of which the second, with "no-", says False."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, option_string != self.option_strings[1])


def _hyphens(word: str) -> str:
    """Spells an option as it is declared: --model.num_stages=5 is --model.num-stages=5."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word


def _add_fields(parser: _Parser, group: Any, cls: type, default: Any, prefix: str) -> None:
    """Declares the fields of a dataclass, those of nested ones as --outer.inner."""
    docs, hints = _docs(cls), typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        name, value, said = prefix + field.name, _default(field, default), docs.get(field.name, "").replace("%", "%%")
        if dataclasses.is_dataclass(value):
            _add_fields(parser, parser.add_argument_group(_flag(name)[2:], said), type(value), value, f"{name}.")
            continue
        kind, marks = _unwrap(hints[field.name])
        if value not in (dataclasses.MISSING, None, "", ()):
            said += f" (default: {_words(value)})".replace("%", "%%")
        if kind is bool:
            group.add_argument(
                _flag(name), _flag(f"{prefix}no_{field.name}"), dest=name, action=_Switch, nargs=0, help=said
            )
            continue
        metavar = next((m for mark in marks if (m := getattr(mark, "metavar", None))), _spelling(kind))
        options: dict[str, Any] = {"nargs": _count(kind), "metavar": metavar, "help": said}
        if Positional in marks:
            optional = options["nargs"] == 1 and value is not dataclasses.MISSING
            parser.usage = f"{parser.usage} [{metavar}]" if optional else f"{parser.usage} {metavar}"
            options["nargs"] = "?" if optional else options["nargs"]
            group.add_argument(name, **options, **({"default": []} if options["nargs"] == "*" else {}))
            continue
        aliases = [alias for mark in marks for alias in getattr(mark, "aliases", None) or ()]
        required = value is dataclasses.MISSING
        group.add_argument(_flag(name), *aliases, dest=name, required=required, **options)


def _build(cls: type[T], default: T | None, given: dict[str, Any], prefix: str) -> T:
    """Builds a dataclass from the words that were given for its fields."""
    hints, values = typing.get_type_hints(cls, include_extras=True), {}
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
        name, value = prefix + field.name, _default(field, default)
        if dataclasses.is_dataclass(value):
            value = _build(type(value), value, given, f"{name}.")
        elif name in given:
            words = given[name]
            words = [words] if isinstance(words, str) else words  # of an optional position
            said = field.name.upper() if Positional in _unwrap(hints[field.name])[1] else _flag(name)
            value = words if isinstance(words, bool) else _read(hints[field.name], words, said)
        values[field.name] = value
    return cls(**values)


def _read(hint: Any, words: list[str], name: str) -> Any:
    """Returns the value of a field from its words; `name` is what messages call it."""
    hint, arguments = _unwrap(hint)[0], typing.get_args(_unwrap(hint)[0])
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if types.NoneType in arguments and words == ["None"]:
            return None
        *first, last = (kind for kind in arguments if kind is not types.NoneType)
        for kind in first:  # as int of "int | str": 60, or "60s"
            with contextlib.suppress(ValueError):
                return _read(kind, words, name)
        return _read(last, words, name)
    if typing.get_origin(hint) is tuple:
        kinds = arguments[:1] * len(words) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(words):
            raise ValueError(f"{name} takes {len(kinds)} values, not {len(words)}")
        return tuple(_read(kind, [word], name) for kind, word in zip(kinds, words, strict=True))
    if typing.get_origin(hint) is Literal:
        if words[0] not in arguments:
            raise ValueError(f"{name} {words[0]}: choose one of {', '.join(arguments)}")
        return words[0]
    try:
        return hint(words[0])
    except ValueError:
        kind = {int: "whole number", float: "number"}.get(hint, hint.__name__)
        raise ValueError(f"{name} {words[0]}: not a {kind}") from None


def _flag(name: str) -> str:
    """Returns how a field is spelled on the command line."""
    return "--" + name.replace("_", "-")


def _count(hint: Any) -> int | str:
    """Returns how many words a value takes, as `nargs`."""
    inner = _unwrap_optional(hint)
    if typing.get_origin(inner) is not tuple:
        return 1
    if typing.get_args(inner)[1:] == (...,):
        return "*"
    return len(typing.get_args(inner)) if inner is hint else "+"  # or "None"


def _default(field: dataclasses.Field, default: Any) -> Any:
    if default is not None:
        return getattr(default, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Returns the type inside Annotated, and what it is annotated with."""
    if typing.get_origin(hint) is Annotated:
        return typing.get_args(hint)[0], hint.__metadata__
    return hint, ()


def _unwrap_optional(hint: Any) -> Any:
    """Returns the type of "that, or None"."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    return hint


def _spelling(hint: Any) -> str:
    """Returns how a value is written, for the help."""
    hint, arguments = _unwrap(hint)[0], typing.get_args(_unwrap(hint)[0])
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return "|".join("None" if kind is types.NoneType else _spelling(kind) for kind in arguments)
    if typing.get_origin(hint) is Literal:
        return "{" + ",".join(arguments) + "}"
    if typing.get_origin(hint) is tuple:
        return _spelling(arguments[0])
    return hint.__name__.upper()


def _words(value: Any) -> str:
    """Returns a default as it would be given."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _docs(cls: type) -> dict[str, str]:
    """Returns the docstrings under the fields of a dataclass and of its bases, from their source."""
    docs = {}
    for base in reversed(cls.__mro__):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError):  # built in, or typed into a notebook
            continue
        for field, text in itertools.pairwise(getattr(tree, "body", ())):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                    docs[name] = " ".join(doc.split())
    return docs
