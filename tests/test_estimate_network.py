"""isr_jax.inference.estimate_network against the network that experiments/estimate_training.py trains."""

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from isr_jax.inference import estimate_network
from isr_jax.inference.estimate_features import WINDOW, features, sharpest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="module")
def training():
    spec = importlib.util.spec_from_file_location("estimate_training", EXPERIMENTS / "estimate_training.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def windows(count, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, WINDOW, WINDOW)).astype(np.float32)


def test_numpy_computes_what_was_trained(training):
    """Also where a batch has pictures of fewer windows than others."""
    rng = np.random.default_rng(0)
    weights = training.start(rng, 95)
    weights["mean"], weights["std"] = rng.normal(size=95), rng.uniform(1, 2, 95)
    pictures, values = [windows(6), windows(3, 1)], rng.normal(size=(2, 95)).astype(np.float32)
    padded = np.stack([pictures[0], np.concatenate([pictures[1], windows(3, 2)])])
    batch = np.clip((values - weights["mean"]) / weights["std"], -4, 4)
    expected = training.network(weights, jnp.asarray(padded), jnp.array([6, 3]), jnp.asarray(batch, jnp.float32))
    for i, picture in enumerate(pictures):
        np.testing.assert_allclose(
            estimate_network.forward(weights, picture, values[i]), expected[i], rtol=1e-3, atol=1e-3
        )


def test_the_features_are_of_windows_in_any_order():
    some = windows(20)
    some *= np.linspace(0.2, 1, 20)[:, None, None]
    np.testing.assert_allclose(features(some[::-1]), features(some), rtol=1e-4, atol=1e-5)
    assert len(sharpest(some)) == 6
    np.testing.assert_array_equal(sharpest(some)[-1], some[-1])
    for drawn in (False, True):
        shipped = estimate_network.believe(some, drawn)
        assert np.isfinite(shipped).all()
        assert shipped.noise_std > 10


@pytest.mark.slow
def test_what_is_drawn_can_be_fitted(training, tmp_path):
    for folder, side in (("photos", 500), ("held_back", 240)):
        (tmp_path / folder).mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
        Image.fromarray(noise).resize((side, side)).save(tmp_path / folder / f"{folder}_0.png")
    drawing = ["draw", "--train", str(tmp_path / "photos"), "--without", str(tmp_path / "held_back")]
    training.main([*drawing, "--count", "12", "--samples", str(tmp_path / "samples.npz")])
    with np.load(tmp_path / "samples.npz") as samples:
        assert samples["windows"].shape == (36, 16, WINDOW, WINDOW)
        assert set(samples["counts"]) <= set(range(4, 17))
        assert samples["features"].shape == (36, 95)
    training.main(
        ["fit", "--samples", str(tmp_path / "samples.npz"), "--output", str(tmp_path / "new.npz"), "--steps", "3"]
    )
    with np.load(tmp_path / "new.npz") as made, np.load(EXPERIMENTS.parent / "isr_jax/inference/estimate.npz") as kept:
        assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in kept.items()}
