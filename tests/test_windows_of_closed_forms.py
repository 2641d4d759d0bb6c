"""Large pictures of models that solve in closed form: overlapping windows are the whole, but for its borders."""

import numpy as np
import pytest

import isr_jax
from isr_jax.inference import runner
from isr_jax.physics.resize import imresize


@pytest.fixture(scope="module")
def lr():
    rng = np.random.default_rng(0)
    coarse = [imresize(rng.uniform(0, 255, (n, n + 4, 3)), size=(260, 300)) for n in (6, 30, 130)]
    return (sum(coarse) / 3).clip(0, 255).astype(np.float32)[None]


LONG = {"blur": (2.4, 1.0, 30), "noise_std": 2.0}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("isr-any-free", LONG),
        pytest.param("isr-any", LONG, marks=pytest.mark.slow),
        pytest.param("isr-any", {"blur": 1.8, "noise_std": 0.0}, marks=pytest.mark.slow),
        pytest.param("isr-any", {"blur": 1.0, "jpeg": 60}, marks=pytest.mark.slow),
    ],
)
def test_windows_are_the_whole_but_for_its_borders(lr, name, known, monkeypatch):
    model = isr_jax.load(name)
    told = []
    whole = model.upscale_batch(lr, scale=2, **known)[0]
    monkeypatch.setattr(runner, "MOST_WHOLE", 1000)
    monkeypatch.setattr(runner, "MAX_WINDOW_FEATURES", 48 * 50 * 50)
    parts = model.upscale_batch(lr, scale=2, **known, progress=lambda done, total: told.append(total))[0]
    assert max(told) > 1  # several windows
    inner = (slice(80, -80), slice(80, -80))
    assert np.abs(parts - whole)[inner].max() < 0.3
    assert np.abs(parts - whole)[inner].mean() < 0.005
    assert np.abs(parts - whole).mean() < 0.05
    turned = model.upscale_batch(lr, scale=2, **known, all_stages=True)[-1, 0]  # as a whole: every stage is wanted
    np.testing.assert_allclose(turned, whole, atol=1e-2)


def test_a_physics_of_the_whole_picture_is_not_cut():
    network = isr_jax.load("isr-any")._runner.model
    periodic = isr_jax.Decimation(2) @ isr_jax.Blur(np.full((3, 3), 1 / 9), border="periodic")
    assert network.faded_reach(periodic) is None
    assert network.faded_reach(isr_jax.Bicubic(2)) == 62
    assert isr_jax.load("isr-lite-x2")._runner.model.faded_reach(isr_jax.Bicubic(2)) is None
