"""Training one model for several scales."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from isr_jax import fit, replay
from isr_jax.config import (
    ConfigError,
    DataConfig,
    DegradationConfig,
    ERDConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from isr_jax.models.model_file import get_params, load_model
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.forensics import write_bundle
from isr_jax.training.plan import print_plan
from isr_jax.training.state import init_state
from isr_jax.training.step import make_degrade

PRIOR = ERDConfig(
    features=4, num_blocks=1, feedback_steps=0, kernel_size=3, weight_norm=False, resolution="lr", noise_plane=True
)
CONFIG = TrainConfig(
    model=ModelConfig(
        scale=3,
        scales=(2, 3),
        num_stages=1,
        physics="blur",
        data_step="closed_form",
        data_step_place="after",
        start_weights=(1e-4, 1e-3, 1e-2),
        extrapolation=False,
        projection=False,
        clip=False,
        prior=PRIOR,
    ),
    data=DataConfig(
        patch_size=8,
        batch_size=9,
        placement="memory",
        degradation=DegradationConfig(gaussian=1.0, gaussian_std=(0.5, 1.0), kernel_size=9, border="periodic"),
    ),
    optimizer=OptimizerConfig(ema_decay=0.0),
    schedule=ScheduleConfig(kind="constant", learning_rate=1e-2),
    steps=1,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (48, 52, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def in_data(config, **changes):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))


@pytest.mark.parametrize("scale", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_a_step_trains_the_blocks_and_the_heads_of_its_scale(folder, tmp_path, scale):
    config = in_data(CONFIG, train=(str(folder),), cache_dir=str(tmp_path / "cache"), scale_cycle=(scale,))
    fit(config, tmp_path / "run", quiet=True)
    before = get_params(ISRResCNet(config.model, rngs=nnx.Rngs(config.seed)))
    after = get_params(load_model(tmp_path / "run"))
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert f"prior.decoder.x{scale}.kernel" in moved  # it starts at 0: what lies before it moves a step later
    assert not any(f".x{5 - scale}." in name for name in moved)
    weights = after["log_weight"] - before["log_weight"]
    index = config.model.scales.index(scale)
    assert weights[index] != 0
    assert weights[1 - index] == 0


@pytest.mark.parametrize("border", [pytest.param("periodic", marks=pytest.mark.slow), "margin"])
def test_every_scale_sees_the_same_pictures_and_as_many_lr_pixels(border):
    degradation = dataclasses.replace(CONFIG.data.degradation, border=border)
    config = in_data(CONFIG, degradation=degradation)
    drawn = config.drawn.drawn_size(config.data_scale) * config.data_scale
    assert config.data_scale == 6
    hr = np.random.default_rng(0).integers(0, 256, (9, drawn, drawn, 3), np.uint8)
    small, large = (make_degrade(config, s)({"hr": hr}, 0, 0) for s in (2, 3))
    assert small.lr.shape == (4, 12, 12, 3)
    assert large.lr.shape == (9, 8, 8, 3)
    assert small.physics.scale == 2
    np.testing.assert_array_equal(small.hr, large.hr[:4])
    blurred = jax.tree.leaves(small.physics)[0]
    np.testing.assert_array_equal(blurred, jax.tree.leaves(large.physics)[0][:4])


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1])
def test_a_step_is_replayed_on_its_scale(tmp_path, capsys, step):
    config = in_data(CONFIG, scale_cycle=(3, 2))
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    state = init_state(get_params(model), config.optimizer.build())
    hr = np.random.default_rng(0).integers(0, 256, (9, 24, 24, 3), np.uint8)
    batch = {"hr": hr, "lr": hr[:, ::6, ::6].copy()}
    write_bundle(tmp_path / "bundle", config, dataclasses.replace(state, step=np.int32(step)), batch)
    assert replay.main([str(tmp_path / "bundle")]) == 1
    assert f"step {step + 1}: " in (told := capsys.readouterr().out)
    assert "not reproduced: the step is finite here" in told


@pytest.mark.slow  # two compilations of 10 seconds
def test_a_step_on_several_scales_is_planned(capsys):
    print_plan(in_data(CONFIG, scale_cycle=(3, 2)))
    assert [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]] == [
        "full back-propagation",
        "remat per stage",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 9}, "27 HR pixels; all of model.scales must divide them: 30 would do"),
        ({"placement": "stream"}, 'data.placement="memory"'),
        ({"degradation": DegradationConfig()}, "data.degradation"),
        ({"scale_cycle": (2, 4)}, "names x4"),
    ],
)
def test_what_does_not_serve_several_scales(changes, message):
    with pytest.raises(ConfigError, match=message):
        in_data(CONFIG, **changes)
