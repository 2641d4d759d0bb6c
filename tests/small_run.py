"""A run of a few seconds, by `isr_jax.fit` in this process."""

import dataclasses
import json

import jax
import numpy as np

from isr_jax.config import (
    CheckpointConfig,
    DataConfig,
    ERDConfig,
    EvalConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from isr_jax.models.model_file import get_params
from isr_jax.training.checkpoint import Checkpoints
from isr_jax.training.memory import load_memory
from isr_jax.training.parallel import start
from isr_jax.training.state import init_state
from tests.test_datasets import write_photos


def small_config(folder, **changes):
    """Writes photographs into `folder` and returns the configuration of a run on them."""
    if not (folder / "photos").exists():
        write_photos(folder / "photos", [(48, 48), (60, 50), (48, 64)])
    erd = ERDConfig(
        features=2, num_blocks=1, feedback_steps=0, kernel_size=3, resolution="lr", border="zero", weight_norm=False
    )
    config = TrainConfig(
        model=ModelConfig(scale=2, num_stages=1, physics="bicubic", projection=False, prior=erd),
        data=DataConfig(
            train=(str(folder / "photos"),),
            cache_dir=str(folder / "cache"),
            tile_size=48,
            patch_size=6,
            batch_size=2,
            placement="memory",
        ),
        optimizer=OptimizerConfig(ema_decay=0.9),
        schedule=ScheduleConfig(kind="constant", learning_rate=1e-3),
        checkpoint=CheckpointConfig(every=3, keep=3),
        eval=EvalConfig(log_every=1),
        steps=9,
    )
    return dataclasses.replace(config, **changes)


def fresh_state(config):
    """The state before the first step of a run of this model."""
    from flax import nnx

    from isr_jax.solver.unrolled import ISRResCNet

    params = get_params(ISRResCNet(config.model, rngs=nnx.Rngs(config.seed)))
    return start(config.parallel).replicate(init_state(params, config.optimizer.build()))


def assert_same_state(a, b):
    """Compares two states to the last bit."""
    leaves, other = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(leaves) == len(other) > 10
    for x, y in zip(leaves, other, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def last_state(run, config):
    """The state that the run would go on from."""
    fingerprint = load_memory(config.data, scale=config.model.scale, channels=3).fingerprint
    with Checkpoints(run, config, fingerprint) as checkpoints:
        restored = checkpoints.restore(fresh_state(config))
    assert restored is not None
    return restored


def contents(folder):
    """All files below a folder, with their bytes and times."""
    return {p.relative_to(folder): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def rates(run):
    """The learning rates recorded, by step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
