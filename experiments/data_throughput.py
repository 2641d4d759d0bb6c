"""Batches a second that a configuration's data pipeline delivers, streamed from disk and drawn from memory.

    python experiments/data_throughput.py configs/lite_x4.py --data.train FOLDER ...

Compare with the steps a second of the training.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from isr_jax.train import load_config, parse_fields
from isr_jax.training import datasets
from isr_jax.training.data import draw_batch
from isr_jax.training.memory import load_memory

SECONDS = 10


def rate(draw: Callable[[], Any]) -> float:
    """Returns how often `draw` runs in a second, the first times apart."""
    for _ in range(20):
        jax.block_until_ready(draw())
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        jax.block_until_ready(draw())
        count += 1
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measures both ways."""
    config = parse_fields(load_config(Path(sys.argv[1])), sys.argv[2:])
    data, scale = config.data, config.model.scale
    sub_images = datasets.sub_images(data, scale=scale, channels=config.model.channels)
    streamed = datasets.stream_batches(sub_images, data, scale=scale, seed=0, first_step=0, shard=0, shards=1)
    memory = jax.device_put(load_memory(data, scale=scale, channels=config.model.channels).memory)
    draw = jax.jit(lambda memory, step: draw_batch(memory, step, 0, 1, seed=0, config=data))
    size = f"{data.batch_size} patches of {data.patch_size * scale}x{data.patch_size * scale}"
    print(f"{size}: streamed {rate(lambda: next(streamed)):.0f} batches a second", flush=True)
    print(f"{size}: from memory {rate(lambda: draw(memory, jnp.int32(0))):.0f} batches a second")


if __name__ == "__main__":
    main()
