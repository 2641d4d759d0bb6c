"""``isr-jax decay RUN -o NEW --steps 2000``: a finished model from a run, which itself goes on undecayed.

The same command goes on with a NEW that was stopped. Exit codes and signals are those of isr-jax train.
"""

import dataclasses
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import CheckpointConfig, DataConfig, EvalConfig, TrainConfig
from isr_jax.startup import prepare_process, process_began


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line. What is not given is as in the run."""

    run: Annotated[Path, Positional]
    """Run folder with a constant rate (schedule.kind constant, or wsd before its decay); it is only read."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The new run folder; its model.safetensors is the result."""
    steps: int
    """Over which the learning rate falls to schedule.final_fraction, at least 2."""
    max_minutes: float = 0.0
    """As of isr-jax train."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """As of isr-jax train."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """As of isr-jax train."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where the same data lie: data.train, data.cache_dir."""


def main(argv: list[str] | None = None) -> int | None:
    """Runs the command."""
    description = "Trains on from a run's newest checkpoint while the learning rate decays, in a folder of its own."
    parse = functools.partial(parse_arguments, Arguments, argv, prog="isr-jax decay", description=description)
    given = parse()

    def change(config: TrainConfig) -> TrainConfig:
        """Replaces in the run's configuration what was given."""
        own = {name: getattr(config, name) for name in ("max_minutes", "eval", "checkpoint", "data")}
        new = parse(default=dataclasses.replace(given, **own))
        return dataclasses.replace(config, **{name: getattr(new, name) for name in own})

    from isr_jax.training.decay import branch  # here: --help must not wait for JAX

    prepare_process()
    done = branch(given.run, given.output, steps=given.steps, change=change, began=process_began())
    return 0 if done.state == "complete" else os.EX_TEMPFAIL


if __name__ == "__main__":
    run(main)
