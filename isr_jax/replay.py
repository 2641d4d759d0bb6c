"""``isr-jax replay BUNDLE``: run a step again that was not finite, and say where it went wrong."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from flax import nnx

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, parse_arguments
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.forensics import diagnose, read_bundle
from isr_jax.training.parallel import Parallel
from isr_jax.training.step import make_step, repeat_step


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    bundle: Annotated[Path, Positional]
    """Folder that train wrote, RUN/nonfinite_STEP."""


def main(argv: list[str] | None = None) -> int | None:
    """Runs the command."""
    bundle = parse_arguments(Arguments, argv, prog="isr-jax replay", description="Repeat a step that failed.").bundle
    config, state, batch = read_bundle(bundle)
    # The whole batch on one device; the schedule as it was: a bundle gives the length of its run in steps.
    parallel = Parallel(tuple(jax.local_devices()[:1]), "shard_map")
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    step = make_step(model, config, total_steps=config.steps, shards=1, draws=False)
    once = parallel.map_steps(repeat_step(step, 1), sharded=True, compiler_options=compiler_options(config.model))
    going, count = parallel.replicate((np.True_, np.int32(1)))
    _, _, metrics = once(parallel.replicate(state), going, parallel.shard(batch), count)
    metrics = {name: float(value[0]) for name, value in jax.device_get(metrics).items()}
    print(f"step {int(state.step) + 1}: " + ", ".join(f"{k} {v:.6g}" for k, v in metrics.items() if k != "finite"))
    print("reproduced" if not metrics["finite"] else "not reproduced: the step is finite here")
    print(diagnose(config, state, batch))
    return 0 if not metrics["finite"] else 1


if __name__ == "__main__":
    run(main)
