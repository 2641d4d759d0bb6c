"""Configurations: every field checked by its annotation, there and back through JSON, and parts of one's own."""

import json
import math
import sys
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from isr_jax.config import (
    CheckpointConfig,
    ConfigError,
    DataConfig,
    ERDConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    PriorConfig,
    ScheduleConfig,
    TrainConfig,
    config_from_dict,
    config_to_dict,
)
from isr_jax.config.checks import interval_seconds
from isr_jax.config.names import locate, source_digest
from isr_jax.models.model_file import load_model, save_model
from isr_jax.solver.unrolled import ISRResCNet


@dataclass(frozen=True, kw_only=True)
class ScaleConfig(PriorConfig):
    """A prior of one number."""

    implementation: ClassVar[str] = f"{__name__}:Scale"
    start: float = 0.5


class Scale(nnx.Module):
    reach, features_per_lr_pixel, uses_noise_std = 0, 3, False

    def __init__(self, config: ScaleConfig, *, channels: int, scale: int, rngs: nnx.Rngs):
        self.factor = nnx.Param(jnp.full(1, config.start))

    def macs_per_pixel(self, scale):
        return 1.0

    def init_carry(self, lr_shape):
        return None

    def __call__(self, image, lr_residual, noise_std, carried):
        return image * self.factor[...], None


def huber(config: LossConfig):
    return lambda estimate, target: jnp.abs(estimate - target).mean() * config.epsilon


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (DataConfig, "augment", "no"),
        (DataConfig, "train", "photos"),
        (DataConfig, "placement", "disk"),
        (DataConfig, "patch_size", 0),
        (EvalConfig, "every", 2.5),
        (CheckpointConfig, "keep", True),
        (OptimizerConfig, "clip_norm", math.nan),
        (OptimizerConfig, "b1", 1.0),
        (ScheduleConfig, "learning_rate", math.inf),
        (ScheduleConfig, "learning_rate", 0.0),
        (ScheduleConfig, "factor", -1.0),
        (ScheduleConfig, "final_fraction", 5.0),
        (ScheduleConfig, "milestones", (0.5, 1.5)),
        (ModelConfig, "radius_range", (1.0, 2.0, 3.0)),
        (ModelConfig, "prior", 3),
        (LossConfig, "kind", "l3"),
        (OptimizerConfig, "kind", "complete"),
    ],
)
def test_values_of_a_wrong_type_or_range_are_one_line(make, field, value, unchecked_shapes):
    with pytest.raises(ConfigError, match=rf"{field} is .*;") as error:
        make(**{field: value})
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=field):  # from a saved run as well
        config_from_dict(make, {field: value})


@pytest.mark.parametrize(("field", "value"), [("steps", True), ("max_minutes", "4"), ("seed", -1), ("model", {})])
def test_the_run_itself_is_checked(field, value, unchecked_shapes):
    with pytest.raises(ConfigError, match=f"^{field} is"):
        TrainConfig(**({"steps": 3} | {field: value}))


def test_whole_numbers_serve_as_numbers(unchecked_shapes):
    config = OptimizerConfig(clip_norm=1)
    assert isinstance(config.clip_norm, float)
    assert config_from_dict(DataConfig, {"train": ["a", "b"]}).train == ("a", "b")


def test_there_and_back_through_json():
    config = TrainConfig(
        steps=7,
        model=ModelConfig(scale=3, prior=ERDConfig(features=5)),
        data=DataConfig(train=("a",)),
        schedule=ScheduleConfig(kind="multistep", milestones=(0.25,)),
    )
    assert config_from_dict(TrainConfig, json.loads(json.dumps(config_to_dict(config)))) == config
    with pytest.raises(ConfigError, match=r"unknown field model\.prior\.colour"):
        config_from_dict(TrainConfig, {"model": {"prior": {"colour": 1}}})


def test_a_network_of_ones_own_is_one_class(tmp_path):
    own = {"prior": ScaleConfig(start=0.25)}
    config = ModelConfig(scale=2, num_stages=2, physics="none", projection=False, extrapolation=False, **own)
    values = json.loads(json.dumps(config_to_dict(config)))
    assert values["prior"] == {"start": 0.25, "type": f"{__name__}:ScaleConfig"}
    assert config_from_dict(ModelConfig, values) == config
    lr = jnp.full((1, 8, 8, 3), 64.0)
    model = ISRResCNet(config, rngs=nnx.Rngs(0))
    save_model(tmp_path / "own.safetensors", model)
    for each in (model, load_model(tmp_path / "own.safetensors")):
        np.testing.assert_allclose(jax.jit(lambda m, lr: m(lr))(each, lr)[:, 4:12, 4:12], 64 * 0.75**2, rtol=1e-5)
    with pytest.raises(ConfigError, match="only possible with ERDConfig"):
        _ = config.erd


def test_a_loss_of_ones_own_is_one_function():
    loss = LossConfig(kind=f"{__name__}:huber", epsilon=2.0).build()
    assert loss(jnp.ones(3), jnp.zeros(3)) == 2
    with pytest.raises(ConfigError, match="cannot be imported"):
        LossConfig(kind="nowhere:huber").build()


@pytest.mark.parametrize("every", [0, -1, True, 2.5, "60", "60m", "0s", "0.0h", "s", "-1s", None])
def test_intervals_that_are_none_are_refused(every, unchecked_shapes):
    with pytest.raises(ConfigError, match=r"^eval\.every is .*; it must be a whole number"):
        EvalConfig(every=every)


@pytest.mark.parametrize(("every", "seconds"), [("60s", 60), ("1.5min", 90), ("2 h", 7200)])
def test_intervals_in_time(every, seconds):
    assert EvalConfig(every=every).every == every
    assert interval_seconds(every) == seconds


def test_parts_of_ones_own_are_found_in_the_current_folder_whoever_looks_first(tmp_path, monkeypatch):
    """A digest that did not find the module would keep what an older text of it made."""
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lies_here.py").write_text("def one():\n    return 1\n")
    first = source_digest("lies_here:one")
    assert first
    assert locate("lies_here:one", "a field")() == 1
    (tmp_path / "lies_here.py").write_text("def one():\n    return 11\n")
    assert source_digest("lies_here:one") not in ("", first)
