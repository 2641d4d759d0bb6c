"""The command ``isr-jax pack-run RUN -o run.tar``: a run as one file, from which it goes on elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, arg, parse_arguments


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line."""

    run: Annotated[Path, Positional]
    """Run folder; it is only read, and may go on meanwhile."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The file to write, as run.tar; isr-jax train --workdir run.tar goes on from it."""


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    arguments = parse_arguments(
        Arguments,
        argv,
        prog="isr-jax pack-run",
        description="Writes the newest whole checkpoint of a run, its configuration, record and weights to one file.",
    )
    import jax  # here: --help must not wait for it

    jax.config.update("jax_platforms", "cpu")  # the accelerator may be the run's, all its memory taken
    from isr_jax.training.archive import pack_run

    step = pack_run(arguments.run, arguments.output)
    size = arguments.output.stat().st_size / 2**20
    print(f"{arguments.output}: step {step} of {arguments.run}, {size:.1f} MiB")


if __name__ == "__main__":
    run(main)
