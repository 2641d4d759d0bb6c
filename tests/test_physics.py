import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from isr_jax.physics.degradation import DENSE_SIZE, make_observation_model, squared_norm
from isr_jax.physics.resize import imresize

RIGHT = ["matlab_bicubic", "blur", "decimation"]
RELEASED = ["released_bicubic", "released_bilinear", "released_kernel", "released_decimation"]


def gaussian(size, std, channels=None):
    t = np.arange(size) - (size - 1) / 2
    k = np.exp(-(t[:, None] ** 2 + 0.5 * t[None, :] ** 2 + 0.2 * t[:, None] * t[None, :]) / (2 * std**2))
    k = (k / k.sum()).astype(np.float32)
    return k if channels is None else np.stack([np.roll(k, c, axis=0) for c in range(channels)], axis=-1)


def random(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 255, shape), jnp.float32)


def model(mode, shape, scale, kernel=None, **options):
    if mode in ("blur", "released_kernel") and kernel is None:
        kernel = gaussian(5, 1.2, shape[3])
    kernel = kernel if mode in ("blur", "released_kernel") else None
    return make_observation_model(mode, shape, scale, kernel=kernel, **options)


@pytest.mark.parametrize("mode", RIGHT)
@pytest.mark.parametrize(
    ("shape", "scale"), [((2, 9, 7, 3), 2), ((1, 5, 8, 1), 3), ((1, 6, 6, 3), 4), ((1, 1, 2, 3), 4)]
)
def test_adjoint_by_dot_product(mode, shape, scale):
    h = model(mode, shape, scale)
    x, y = random((shape[0], shape[1] * scale, shape[2] * scale, shape[3])), random(shape, 1)
    down, up = jax.jit(lambda x, y: (h.apply(x), h.back_project(y)))(x, y)
    left = np.vdot(np.asarray(down, np.float64), np.asarray(y, np.float64))
    right = np.vdot(np.asarray(x, np.float64), np.asarray(up, np.float64))
    assert left == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize(("size", "colour"), [(1, True), (4, False), (4, True), (15, True)])
def test_adjoint_of_any_blur_kernel(size, colour):
    shape = (1, 6, 7, 3)
    h = model("blur", shape, 2, gaussian(size, 2.0, 3 if colour else None))
    x, y = random((1, 12, 14, 3)), random(shape, 1)
    left, right = jax.jit(lambda x, y: (jnp.vdot(h.apply(x), y), jnp.vdot(x, h.back_project(y))))(x, y)
    assert float(left) == pytest.approx(float(right), rel=1e-5)


@pytest.mark.parametrize("mode", RIGHT)
def test_gradient_is_the_derivative_of_the_data_term(mode):
    shape = (1, 6, 5, 3)
    h = model(mode, shape, 3)
    x, y = random((1, 18, 15, 3)), random(shape, 1)
    expected = jax.jit(jax.grad(lambda x: 0.5 * jnp.sum((h.apply(x) - y) ** 2)))(x)
    np.testing.assert_allclose(jax.jit(h.gradient)(x, y), expected, atol=1e-3)


@pytest.mark.parametrize("mode", RIGHT)
@pytest.mark.parametrize("scale", [2, 3])
def test_the_step_makes_the_data_term_fall(mode, scale):
    shape = (1, 12, 12, 3)
    h = model(mode, shape, scale)
    x, y = random((1, 12 * scale, 12 * scale, 3)), random(shape, 1)

    @jax.jit
    def descend(x, y):
        step = h.step_size()

        def iterate(x, _):
            return x - step * h.gradient(x, y), jnp.sum((h.apply(x) - y) ** 2)

        return jax.lax.scan(iterate, x, length=10)[1]

    assert all(b <= a for a, b in itertools.pairwise(descend(x, y)))


@pytest.mark.parametrize("mode", RIGHT)
def test_squared_norm_is_the_largest_singular_value_squared(mode):
    shape = (1, 6, 6, 1)
    h = model(mode, shape, 2, gaussian(3, 1.0))
    basis = jnp.eye(144).reshape(144, 12, 12, 1)
    batch = model(mode, (144, 6, 6, 1), 2, gaussian(3, 1.0))
    matrix = np.asarray(batch.apply(basis)).reshape(144, 36).T
    norm = jax.jit(lambda: squared_norm(h.apply, h.back_project, (1, 12, 12, 1)))()
    assert float(norm) == pytest.approx(np.linalg.norm(matrix, 2) ** 2, rel=0.01)
    assert float(h.step_size()) == pytest.approx(1 / np.linalg.norm(matrix, 2) ** 2, rel=0.01)


@pytest.mark.parametrize("width", [10, DENSE_SIZE + 1])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_matlab_bicubic_is_imresize_both_ways(scale, width):
    hr = np.asarray(random((1, 9 * scale, width * scale, 3)))
    lr = imresize(hr[0].astype(np.float64), 1 / scale)
    h = model("matlab_bicubic", (1, 9, width, 3), scale)
    np.testing.assert_allclose(h.apply(jnp.asarray(hr))[0], lr, atol=2e-3)
    start = h.initial_estimate(jnp.asarray(lr[None], jnp.float32))[0]
    np.testing.assert_allclose(start, imresize(lr, scale), atol=2e-3)


def test_blur_is_correlation_then_decimation():
    k = np.zeros((5, 5), np.float32)
    k[1, 4] = 1  # reads the pixel one row up and two columns to the right
    x = random((1, 12, 12, 3))
    y = model("blur", (1, 6, 6, 3), 2, k).apply(x)
    np.testing.assert_array_equal(y[0, 1:, :-1], x[0, 1:-1:2, 2::2][:5, :5])


@pytest.mark.parametrize("mode", [*RIGHT, *RELEASED, "none"])
def test_a_constant_picture_starts_as_itself_but_for_the_released_dark_border(mode):
    start = np.asarray(model(mode, (1, 8, 8, 3), 2).initial_estimate(jnp.full((1, 8, 8, 3), 100.0)))
    np.testing.assert_allclose(start[:, 2:-2, 2:-2], 100, atol=1e-3)
    np.testing.assert_allclose(start[0, 0, 8], 50 if mode in RELEASED else 100, atol=1e-3)


@pytest.mark.parametrize("mode", RELEASED)
@pytest.mark.parametrize(("size", "scale"), [((5, 6), 2), ((4, 7), 3), ((4, 3), 4)])
def test_released_operators_as_defined(mode, size, scale):
    kernel = gaussian(5, 1.2, 3)
    y, x = random((*size, 3)), random((size[0] * scale, size[1] * scale, 3), 1)
    down, up = reference.data_term(mode, scale, kernel)
    h = model(mode, (1, *size, 3), scale, kernel)
    np.testing.assert_allclose(h.apply(x[None])[0], down(np.asarray(x)), atol=2e-3)
    np.testing.assert_allclose(h.back_project(y[None])[0], up(np.asarray(y)), atol=2e-3)
    start = reference.bilinear_grid(np.asarray(y), size[0] * scale, size[1] * scale)
    np.testing.assert_allclose(h.initial_estimate(y[None])[0], start, atol=2e-3)


def test_aligned_corners_keep_the_corners():
    y = random((1, 4, 5, 3))
    start = model("released_bilinear", (1, 4, 5, 3), 3, align_corners=True).initial_estimate(y)
    np.testing.assert_allclose(
        start[0, [0, 0, -1, -1], [0, -1, 0, -1]], y[0, [0, 0, -1, -1], [0, -1, 0, -1]], rtol=1e-5
    )
    np.testing.assert_allclose(start[0], reference.bilinear_grid(np.asarray(y[0]), 12, 15, True), atol=1e-3)


def test_kernels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="needs a blur kernel"):
        make_observation_model("blur", (1, 4, 4, 3), 2)
    with pytest.raises(ValueError, match="takes no blur kernel"):
        make_observation_model("decimation", (1, 4, 4, 3), 2, kernel=jnp.ones((3, 3)))
    with pytest.raises(ValueError, match="2 channels"):
        make_observation_model("blur", (1, 4, 4, 3), 2, kernel=jnp.ones((3, 3, 2)))
