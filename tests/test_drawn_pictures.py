"""experiments/drawn_pictures.py: what no camera took, to learn from."""

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import isr_jax
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.sampling import Bicubic
from isr_jax.pictures.images import list_images, read_image
from isr_jax.pictures.metrics import round_to_8_bits

SCRIPT = Path(__file__).parents[1] / "experiments" / "drawn_pictures.py"


@pytest.fixture(scope="module")
def drawing():
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("drawn_pictures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_charts_and_cartoons_are_drawn_the_same_for_the_same_seed(drawing, tmp_path):
    for name, seed in (("first", "0"), ("again", "0"), ("other", "1")):
        drawing.main(["--count", "3", "--seed", seed, "--output", str(tmp_path / name)])
    first, again, other = (
        [read_image(p).pixels for p in list_images(tmp_path / n)] for n in ("first", "again", "other")
    )
    assert [path.name for path in list_images(tmp_path / "first")] == [
        "cartoon0-0002.png",
        "chart0-0001.png",
        "page0-0000.png",
    ]
    for a, b, c in zip(first, again, other, strict=True):
        assert a.shape == (drawing.SIDE, drawing.SIDE, 3)
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def test_their_edges_are_as_sharp_as_pixels_allow(drawing):
    """Somewhere two neighbours differ by more than half of the picture's whole range."""
    for kind in drawing.KINDS:
        grey = np.asarray(kind(np.random.default_rng(0)).convert("L"), np.float32)
        assert np.abs(np.diff(grey, axis=1)).max() > 0.5 * (grey.max() - grey.min())


@pytest.mark.parametrize("kind", [0, 2])
def test_a_blurred_one_is_seen_to_be_blurred_and_a_sharp_one_sharp(drawing, kind):
    """A page and a cartoon that are not among those which the estimate has learned from."""
    hr = jnp.asarray(drawing.KINDS[kind](np.random.default_rng((1, kind))), jnp.float32)[None]
    sharp, blurred = (
        isr_jax.estimate_degradation(round_to_8_bits(np.asarray((Bicubic(4) @ Blur(kernel)).apply(hr))[0]))
        for kernel in (gaussian_kernel((width, width), radius=15) for width in (0.0, 2.4))
    )
    assert sharp.clean
    assert blurred.blur_std == pytest.approx(2.4, abs=0.6)
