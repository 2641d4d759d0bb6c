"""Training on a bare machine with an accelerator, a slice at a time: measure, choose, train, score, pack the run.

    python experiments/accelerator.py configs/lite_x4.py --data a.pack --eval dev --score Set5 --minutes 10 --out out
    python experiments/accelerator.py --state out/run.tar --data a.pack --eval dev --score Set5 --minutes 10 --out out

From the root of the project, with nothing installed but jax, flax, optax, orbax-checkpoint, jaxtyping, numpy and
pillow. The first slice measures steps a second for each batch and precision, and takes the fastest precision with the
smallest batch that has nine tenths of the most patches a second; a later slice goes on as the run began. Every slice
ends within its minutes, counted from the start of the process, and leaves in --out: run.tar (from which the next slice
goes on, anywhere), model.safetensors, metrics.jsonl, measured.md and scores.md. Exit code 75 while the run has not
reached its last step. Options behind those below are fields of the configuration, as --steps 40000.
"""

import argparse
import dataclasses
import gc
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package need not be installed

import jax
import numpy as np
from flax import nnx

from isr_jax.__main__ import exit_code
from isr_jax.benchmark.benchmark import run_benchmark
from isr_jax.benchmark.report import format_table
from isr_jax.config import ConfigError, TrainConfig
from isr_jax.models.model_file import get_params
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.startup import prepare_process, process_began
from isr_jax.train import load_config, load_run, parse_fields
from isr_jax.training.archive import pack_run, unpack_run
from isr_jax.training.data import Memory
from isr_jax.training.loop import fit
from isr_jax.training.parallel import start
from isr_jax.training.state import init_state
from isr_jax.training.step import make_step, repeat_step

STEPS_PER_CALL = 50
RESERVE = 30.0
"""Seconds kept back for scoring and packing, beside what the training itself keeps back."""


class Speed(NamedTuple):
    """What one way of training reaches."""

    precision: str
    batch: int
    steps: float
    """A second; 0: does not fit into memory."""

    @property
    def patches(self) -> float:
        """A second."""
        return self.steps * self.batch


def changed(config: TrainConfig, *, precision: str, batch: int) -> TrainConfig:
    """Returns the configuration with another precision of the network and batch."""
    data = dataclasses.replace(config.data, batch_size=batch)
    return dataclasses.replace(config, data=data, precision=precision)


def measure(config: TrainConfig, seconds: float) -> float:
    """Returns the steps a second on random pictures; 0 if they do not fit."""
    parallel = start(config.parallel)
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    step = make_step(model, config, total_steps=max(1, config.steps), shards=parallel.size)
    steps = parallel.map_steps(
        repeat_step(step, STEPS_PER_CALL), sharded=False, compiler_options=compiler_options(config.model)
    )
    scale, side = config.data_scale, config.data.tile_size // config.data_scale
    rng, shape = np.random.default_rng(0), (32, side, side, config.model.channels)
    lr = rng.integers(0, 256, shape, np.uint8)
    hr, size = lr.repeat(scale, 1).repeat(scale, 2), np.full((32, 2), side, np.int32)
    memory = Memory(lr, hr, size, np.linspace(1 / 32, 1, 32, dtype=np.float32))
    try:
        source = parallel.replicate(memory)
        state = parallel.replicate(init_state(get_params(model), config.optimizer.build()))
        going, taken, began = parallel.replicate(np.True_), 0, 0.0
        count = 1
        while not taken or time.perf_counter() - began < seconds:
            state, going, metrics = steps(state, going, source, parallel.replicate(np.int32(count)))
            jax.block_until_ready(metrics)
            if began:
                taken += count
            else:  # the first step compiles
                began = time.perf_counter()
                count = 1 if jax.default_backend() == "cpu" else STEPS_PER_CALL
        return taken / (time.perf_counter() - began)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return 0.0
    finally:
        gc.collect()


def choose(speeds: list[Speed]) -> Speed:
    """Returns the fastest precision, at the smallest batch that has nine tenths of the most patches a second."""
    fastest = max(speeds, key=lambda speed: speed.patches)
    good = [s for s in speeds if s.precision == fastest.precision and s.patches >= 0.9 * fastest.patches]
    return min(good, key=lambda speed: speed.batch)


def measured_table(config: TrainConfig, speeds: list[Speed]) -> str:
    """Returns what was measured as Markdown."""
    device = jax.devices()[0]
    pixels = config.data.patch_size**2
    lines = [
        f"{device.device_kind} ({jax.default_backend()}), jax {jax.__version__}; K = {STEPS_PER_CALL} steps a call.\n",
        "| precision | batch | steps/s | patches/s | LR pixels/s |\n| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {s.precision} | {s.batch} | {s.steps:.4g} | {s.patches:.4g} | {s.patches * pixels:.3g} |" for s in speeds
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Does all of a slice; returns its exit code."""
    began = process_began()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", help="CONFIG.py of a new run")
    parser.add_argument("--state", type=Path, help="run.tar of the slice before, to go on from")
    parser.add_argument("--data", nargs="+", required=True, help="packs or folders of training pictures")
    parser.add_argument("--eval", nargs="*", default=[], help="validation folders")
    parser.add_argument("--score", nargs="*", default=[], help="folders that the model is scored on at the end")
    parser.add_argument("--minutes", type=float, required=True, help="of the whole slice")
    parser.add_argument("--out", type=Path, required=True, help="folder for what goes home")
    parser.add_argument("--workdir", type=Path, default=Path("runs/accelerator"), help="run folder of a new run")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 64, 128])
    parser.add_argument("--precisions", nargs="+", default=["float32", "tf32", "bfloat16"])
    parser.add_argument("--measure-seconds", type=float, default=2.0, help="for each batch and precision")
    arguments, fields = parser.parse_known_args(argv)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    places = ["--data.train", *arguments.data, *(["--eval.data", *arguments.eval] if arguments.eval else [])]
    minutes = arguments.minutes - RESERVE / 60
    limits = ["--data.placement", "memory", "--max-minutes", str(minutes), "--steps-per-call", str(STEPS_PER_CALL)]
    if arguments.state is not None:
        workdir, said = unpack_run(arguments.state)
        print(said, flush=True)
        prepare_process(cache=workdir / "cache")
        config = parse_fields(load_run(workdir), [*fields, *places, *limits])
    elif arguments.config is not None:
        workdir = arguments.workdir
        prepare_process(cache=workdir / "cache")
        config = parse_fields(load_config(arguments.config), [*fields, *places, *limits])
        speeds: list[Speed] = []
        for precision in arguments.precisions:
            for batch in arguments.batches:
                speed = measure(changed(config, precision=precision, batch=batch), arguments.measure_seconds)
                speeds.append(Speed(precision, batch, speed))
                print(f"{precision}, batch {batch}: {speed:.4g} steps a second", flush=True)
        (out / "measured.md").write_text(measured_table(config, speeds))
        best = choose(speeds)
        print(f"chosen: {best.precision}, batch {best.batch}", flush=True)
        config = changed(config, precision=best.precision, batch=best.batch)
    else:
        raise ConfigError("nothing to train: give CONFIG.py, or --state run.tar")

    done = fit(config, workdir, began=began)
    print(f"step {done.step} of {done.of} after {(time.monotonic() - began) / 60:.2f} minutes", flush=True)
    pack_run(workdir, out / "run.tar")
    for name in ("model.safetensors", "metrics.jsonl"):
        shutil.copy(workdir / name, out / name)
    if arguments.score:
        table = format_table(run_benchmark(str(workdir), arguments.score).table())
        (out / "scores.md").write_text(table + "\n")
        print(table)
    print(f"done in {(time.monotonic() - began) / 60:.2f} of {arguments.minutes:g} minutes", flush=True)
    return 0 if done.state == "complete" else 75


if __name__ == "__main__":
    sys.exit(exit_code(main))
