"""``isr-jax plot RUN``: the curves of a run, from its metrics.jsonl, as a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    run: Annotated[Path, Positional]
    """Run folder."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """Where the PNG goes; RUN/curves.png if not given."""


def main(argv: list[str] | None = None) -> int | None:
    """Runs the command."""
    arguments = parse_arguments(Arguments, argv, prog="isr-jax plot", description="Draw the curves of a run.")
    output = arguments.output or arguments.run / "curves.png"
    if output.suffix != ".png":
        raise ConfigError(f"--output {output}: the curves are a PNG; name it .png")
    from isr_jax.training.curves import draw_run  # here: --help must not wait for matplotlib

    draw_run(arguments.run, output)
    print(output)


if __name__ == "__main__":
    run(main)
