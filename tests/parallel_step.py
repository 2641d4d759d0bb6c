"""Runs three steps, in calls of so many, on the devices and processes it is told of, and writes the parameters."""

import dataclasses
import sys

import jax

out, devices, mapping, placement, processes, index, port, *calls = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(devices))

import numpy as np  # noqa: E402 - the devices come first
from flax import nnx  # noqa: E402

from isr_jax.config import DataConfig, DegradationConfig, ERDConfig, ModelConfig, ParallelConfig, TrainConfig  # noqa: E402
from isr_jax.models.model_file import get_params  # noqa: E402
from isr_jax.solver.unrolled import ISRResCNet  # noqa: E402
from isr_jax.training.data import Memory  # noqa: E402
from isr_jax.training.parallel import start  # noqa: E402
from isr_jax.training.state import init_state  # noqa: E402
from isr_jax.training.step import make_step, repeat_step  # noqa: E402

erd = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3, resolution="lr", weight_norm=False)
# A kernel and a noise level for each picture; not rounded, so that nothing falls on the edge of two levels.
degradation = DegradationConfig(
    gaussian=1.0, bicubic=1.0, kernel_size=9, noise_std=(0.0, 5.0), border="periodic", rounding="none"
)
config = TrainConfig(
    model=ModelConfig(scale=2, num_stages=1, physics="blur", prior=erd),
    data=DataConfig(batch_size=8, patch_size=6, placement=placement, degradation=degradation),
    parallel=ParallelConfig(
        mapping=mapping,
        num_processes=int(processes),
        process_index=int(index),
        coordinator=f"localhost:{port}" if int(processes) > 1 else "",
    ),
    steps=3,
)
parallel = start(config.parallel)
assert parallel.size == int(devices) * int(processes)
model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
one = make_step(model, config, total_steps=3, shards=parallel.size)
steps = parallel.map_steps(repeat_step(one, max(map(int, calls))), sharded=placement == "stream")
state = parallel.replicate(init_state(get_params(model), config.optimizer.build()))
rng = np.random.default_rng(0)
hr = rng.integers(0, 256, (12, 20, 20, 3)).astype(np.uint8)
lr = np.ascontiguousarray(hr[:, ::2, ::2])
if placement == "memory":
    source = parallel.replicate(Memory(lr, hr, np.full((12, 2), 10, np.int32), np.linspace(1 / 12, 1, 12).astype("f")))
else:
    share = slice(8 // int(processes) * int(index), 8 // int(processes) * (int(index) + 1))
    source = parallel.shard({"lr": lr[share, :6, :6], "hr": hr[share, :12, :12]})
metrics = {}
going, *counts = parallel.replicate((np.True_, *map(np.int32, calls)))
for count in counts:
    with jax.transfer_guard("disallow"):
        state, going, metrics = steps(state, going, source, count)
jax.block_until_ready(state)
cache = getattr(steps, "_cache_size", lambda: 1)()
state, metrics = (jax.tree.map(lambda a: np.asarray(a.addressable_data(0)), tree) for tree in (state, metrics))
np.savez(
    out,
    cache=cache,
    loss=metrics["loss"][int(calls[-1]) - 1],
    **state.params,
    **{f"mu.{k}": v for k, v in dataclasses.asdict(state)["optimizer"][1].mu.items()},
)
