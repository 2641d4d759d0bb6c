"""The command ``isr-jax benchmark``: a suite of methods x sets x physics, kept as it goes (`benchmark.suite`)."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from isr_jax.__main__ import PARTLY_DONE, run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError
from isr_jax.pictures.images import name_left_out
from isr_jax.startup import prepare_process


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """The arguments of the command."""

    suite: Annotated[Path, Positional, arg(metavar="SUITE.toml")]
    """What to score: methods, sets, scales, physics, measures; see isr_jax/config/suite.py."""
    output: Annotated[Path, arg(aliases=["-o"])] = Path("results")
    """Folder of the tables, the page and all results; what is there already is not done again."""
    data: Path | None = None
    """Folder that holds the suite's sets; the folder of SUITE.toml by default."""
    pictures: bool = True
    """Keep the results as PNG: without them there is no comparing by eye, and another measure means another run."""
    quiet: bool = False
    """Say nothing of the progress."""


def main(argv: list[str] | None = None) -> int:
    """Scores as the command line says. Returns the exit code, `PARTLY_DONE` where some pictures are not read."""
    options = parse_arguments(
        BenchmarkOptions,
        argv,
        prog="isr-jax benchmark",
        description="Scores methods on sets of pictures, keeps what is done, and writes the tables of a paper.",
    )
    if options.output.exists() and not options.output.is_dir():
        raise ConfigError(f"--output {options.output} is a file: name a folder")
    from isr_jax.benchmark.report import name_unmeasured
    from isr_jax.benchmark.suite import Suite  # --help must not wait for it
    from isr_jax.benchmark.suite_report import run_suite

    suite = Suite(options.suite, options.output, data=options.data, keep_pictures=options.pictures)
    if suite.needs_jax:
        prepare_process()
    try:
        result = run_suite(suite, quiet=options.quiet)
    except KeyboardInterrupt:
        print(f"isr-jax: what is done is kept in {options.output}: the same command goes on", file=sys.stderr)
        raise
    print((options.output / "results.md").read_text(encoding="utf-8"), end="")
    name_unmeasured(result.rows)
    name_left_out(suite.left_out)
    return PARTLY_DONE if suite.left_out else 0


if __name__ == "__main__":
    run(main)
