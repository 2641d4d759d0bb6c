"""``python -m isr_jax.train CONFIG.py --workdir RUN [--field value ...]``: train a model, or go on with a run.

The same command resumes a run that was stopped; so does ``isr-jax train --workdir RUN``, for a run folder holds its
configuration, and ``--workdir RUN.tar`` unpacks what isr-jax pack-run packed and goes on with that. Exit code 0: the
run is complete; 75: it was stopped before that, by a signal or --max-minutes, with its last step saved;
RUN/status.json says the same. It calls `isr_jax.training.loop.fit`.

``isr-jax train --follow RUN`` shows a run that another process trains, until it ends; its exit code is that of the run.
"""

import os
import runpy
import sys
from pathlib import Path

from isr_jax.__main__ import run
from isr_jax.command_line import parse_arguments
from isr_jax.config import ConfigError, TrainConfig, read_config
from isr_jax.startup import prepare_process, process_began

_USAGE = (
    "usage: isr-jax train CONFIG.py --workdir RUN [--field value ...], or --workdir RUN|RUN.tar [--field value ...] to "
    "go on with a run, or CONFIG.py --plan, or --follow RUN"
)


def main(argv: list[str] | None = None) -> int | None:
    """Runs the command."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        raise ConfigError(f"a configuration is missing; {_USAGE}")
    if argv[0] in ("-h", "--help"):
        print(f"{_USAGE}\n\nThe fields, with their defaults before CONFIG.py changes them:\n")
        parse_fields(TrainConfig(steps=1), ["--help"])
    if argv[0].partition("=")[0] == "--follow":
        return _follow(argv)
    named = [] if argv[0].startswith("--") else argv[:1]
    rest, workdir = _take(argv[len(named) :], "--workdir")
    if not named and workdir is None:
        raise ConfigError(f"a configuration is missing; {_USAGE}")
    config = load_config(Path(named[0])) if named else None
    if plan := "--plan" in rest:
        rest.remove("--plan")
    if config is not None:
        config = parse_fields(config, rest)
    folder = None if workdir is None else Path(workdir)
    if folder is not None and folder.suffix == ".tar" and not folder.is_dir() and not plan:
        from isr_jax.training.archive import unpack_run  # here and below: help and errors need not wait for JAX

        folder, said = unpack_run(folder)
        print(f"isr-jax: {said}", file=sys.stderr)
    if config is None:
        assert folder is not None
        config = parse_fields(load_run(folder), rest)
    if plan:
        from isr_jax.training.plan import print_plan

        print_plan(config)
        return 0
    if folder is None:
        raise ConfigError(f"--workdir is missing; {_USAGE}")
    from isr_jax.training.loop import fit

    prepare_process(cache=folder / "cache")
    done = fit(config, folder, began=process_began())
    return 0 if done.state == "complete" else os.EX_TEMPFAIL


def load_run(folder: Path) -> TrainConfig:
    """Returns the configuration with which a run was last trained.

    Raises:
      ConfigError: If the folder holds none.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no config.json, no run was begun there: give a configuration; {_USAGE}")
    return read_config(TrainConfig, path)


def load_config(path: Path) -> TrainConfig:
    """Runs a configuration file and returns its CONFIG.

    Raises:
      ConfigError: If the file is missing, fails, or has no CONFIG of type TrainConfig.
    """
    if path.suffix != ".py":
        raise ConfigError(f"{path}: the first argument is a configuration, CONFIG.py; {_USAGE}")
    try:
        values = runpy.run_path(str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from None
    if not isinstance(values.get("CONFIG"), TrainConfig):
        raise ConfigError(f"{path}: has no CONFIG = TrainConfig(...)")
    return values["CONFIG"]


def parse_fields(config: TrainConfig, arguments: list[str]) -> TrainConfig:
    """Returns `config` with fields replaced as the command line says, e.g. ["--model.num-stages", "5"].

    Raises:
      ConfigError: If a field is unknown or a value unfit.
    """
    return parse_arguments(
        TrainConfig, arguments, prog="isr-jax train CONFIG.py --workdir RUN", description="", default=config
    )


def _follow(argv: list[str]) -> int:
    rest, folder = _take(argv, "--follow")
    if rest or not folder:
        raise ConfigError(f"--follow takes one run folder; {_USAGE}")
    from isr_jax.training.follow import follow

    try:
        return follow(Path(folder))
    except KeyboardInterrupt:  # the way to leave it
        return 130


def _take(arguments: list[str], name: str) -> tuple[list[str], str | None]:
    """Takes `--name value` or `--name=value` out of the arguments.

    Raises:
      ConfigError: If nothing follows the name, or nothing but the next option.
    """
    for i, argument in enumerate(arguments):
        if argument == name or argument.startswith(name + "="):
            value, rest = argument[len(name) + 1 :], arguments[i + 1 :]
            if argument == name and rest and not rest[0].startswith("--"):
                value, *rest = rest
            if not value:
                raise ConfigError(f"{name} needs a folder behind it; {_USAGE}")
            return arguments[:i] + rest, value
    return arguments, None


if __name__ == "__main__":
    run(main)
