"""conv2d against sums written out with NumPy, and its derivatives against XLA's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isr_jax.solver.convolution import BLOCK_POSITIONS, blocks, conv2d

SHAPES = [  # batch, height, width, inputs, outputs, kernel
    (1, 7, 5, 3, 4, 3),
    (2, 8, 9, 4, 2, 5),
    (3, 6, 6, 1, 1, 3),
    (2, 5, 4, 3, 6, 1),
    (1, 2, 9, 2, 3, 5),
    (2, 1, 3, 2, 2, 3),
    (1, 1, 1, 2, 2, 5),
    (5, 13, 17, 16, 8, 3),
]


def example(batch, height, width, inputs, outputs, size, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, height, width, inputs)).astype(np.float32)
    kernel = rng.standard_normal((size, size, inputs, outputs)).astype(np.float32) / np.sqrt(size * size * inputs)
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def reference(x, kernel, border):
    """The same sums, written with NumPy's own padding, one tap at a time."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    rows, cols = kernel.shape[:2]
    height, width = x.shape[1:3]
    pads = ((0, 0), (rows // 2, rows // 2), (cols // 2, cols // 2), (0, 0))
    x = np.pad(x, pads, mode="constant" if border == "zero" else "reflect")
    return sum(x[:, a : a + height, b : b + width] @ kernel[a, b] for a, b in np.ndindex(rows, cols))


@pytest.mark.parametrize("border", ["zero", "reflect"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_sum_over_taps(shape, border):
    x, kernel = example(*shape)
    np.testing.assert_allclose(
        jax.jit(conv2d, static_argnames="border")(x, kernel, border=border), reference(x, kernel, border), atol=2e-5
    )


def test_bfloat16_and_promotion():
    x, kernel = example(2, 8, 9, 4, 2, 3)
    y = conv2d(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float32), reference(x, kernel, "zero"), atol=0.05)
    assert conv2d(x.astype(jnp.bfloat16), kernel).dtype == jnp.float32


def test_wrong_arguments_are_named():
    x, kernel = example(1, 5, 5, 3, 4, 3)
    with pytest.raises(ValueError, match="odd kernels"):
        conv2d(x, kernel[:2])


def plain(x, kernel, border):
    """The same map by JAX's own convolution, VALID on a padded copy: the reference of every derivative."""
    rows, cols = kernel.shape[:2]
    pads = ((0, 0), (rows // 2, rows // 2), (cols // 2, cols // 2), (0, 0))
    x = jnp.pad(x, pads, mode="constant" if border == "zero" else "reflect")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def close(actual, expected, tolerance=3e-5):
    """Compares pytrees, errors relative to the largest value of each array."""
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        np.testing.assert_allclose(a, e, atol=tolerance * np.abs(e).max())


def loss(convolve, border):
    """A scalar of two convolutions in a row, so that gradients flow to inputs and kernels through a nonlinearity."""
    return lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, border=border)) ** 2)


@pytest.mark.parametrize("border", ["zero", "reflect"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_the_plain_convolution(shape, border):
    x, kernel = example(*shape)
    gradient = jax.jit(jax.value_and_grad(loss(conv2d, border), (0, 1)))(x, kernel)
    close(gradient, jax.jit(jax.value_and_grad(loss(plain, border), (0, 1)))(x, kernel))


@pytest.mark.parametrize(
    "shape",
    [(3, 60, 61, 2, 3, 3), (1, 97, 53, 2, 1, 5), (6, 20, 20, 3, 2, 3), (2, 3, 3000, 1, 2, 3), (1, 3001, 2, 2, 2, 3)],
)
def test_weight_gradient_in_blocks(shape):
    """Images of more and of less than one block: strips of rows, with and without a rest, and groups of images."""
    x, kernel = example(*shape)
    close(jax.jit(jax.grad(loss(conv2d, "zero"), 1))(x, kernel), jax.jit(jax.grad(loss(plain, "zero"), 1))(x, kernel))


def test_blocks_cover_the_batch():
    for batch, height, width in [
        (16, 32, 32),
        (16, 48, 48),
        (4, 96, 96),
        (1, 256, 256),
        (7, 8, 8),
        (1, 97, 97),
        (1, 1, 9999),
    ]:
        images, strips = blocks(batch, height, width)
        assert batch % images == 0
        assert 1 in (images, strips)
        strip = -(-height // strips)
        assert strip * strips >= height
        assert images * strip * width <= BLOCK_POSITIONS + width


@pytest.mark.parametrize("border", [pytest.param("zero", marks=pytest.mark.slow), "reflect"])
def test_every_transformation(border):
    x, kernel = example(4, 7, 6, 3, 3, 3)
    tangents = example(4, 7, 6, 3, 3, 3)[0] * 0.3, kernel[::-1] * 0.2

    def evaluate(convolve):
        f = loss(convolve, border)
        one = functools.partial(convolve, border=border)
        y, linear = jax.linearize(one, x, kernel)
        transposed = jax.linear_transpose(linear, x, kernel)

        def stages(x, kernel):
            step = jax.checkpoint(lambda state, _: (jnp.tanh(one(state, kernel)), None))
            return jnp.sum(jax.lax.scan(step, x, length=3)[0])

        return {
            "jvp": jax.jvp(f, (x, kernel), tangents),
            "linearize": [y, linear(*tangents), linear(*tangents), linear(tangents[0], kernel)],
            "transpose": [transposed(y), transposed(y)],
            "vmap": jax.vmap(one, (0, None))(x[None], kernel),
            "vmap over kernels": jax.vmap(one, (None, 3), 3)(x, jnp.stack([kernel, -kernel], 3)),
            "vmap over both": jax.vmap(jax.grad(f, (0, 1)), (0, None))(x[:, None], kernel),
            "scan and remat": jax.grad(stages, (0, 1))(x, kernel),
            "second order": jax.grad(lambda k: jnp.sum(jax.grad(f, (0, 1))(x, k)[1] ** 2))(kernel),
            "mixed order": jax.grad(lambda k: jnp.sum(jax.grad(f)(x, k) ** 2))(kernel),
            "hessian": jax.hessian(f, 1)(x, kernel[:, :, :, :1]),
        }

    close(evaluate(conv2d), evaluate(plain), 1e-4)


def test_gradients_in_bfloat16():
    x, kernel = example(5, 13, 17, 16, 8, 3)
    small = jax.grad(loss(conv2d, "reflect"), (0, 1))(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert {a.dtype for a in small} == {jnp.dtype(jnp.bfloat16)}
    exact = jax.grad(loss(conv2d, "reflect"), (0, 1))(x, kernel)
    close([a.astype(jnp.float32) for a in small], exact, 0.05)


@pytest.mark.parametrize("check", [True, False])
def test_in_shard_map(check):
    """The gradient of a shared kernel, where JAX checks what varies between devices and where not."""
    x, kernel = example(2, 7, 6, 3, 3, 3)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def gradient(x, kernel):
        kernel = jax.lax.pcast(kernel, "data", to="varying") if check else kernel
        return jax.lax.pmean(jax.grad(loss(conv2d, "zero"), 1)(x, kernel), "data")

    mapped = jax.shard_map(gradient, mesh=mesh, in_specs=(spec("data"), spec()), out_specs=spec(), check_vma=check)
    close(jax.jit(mapped)(x, kernel), jax.grad(loss(plain, "zero"), 1)(x, kernel))
    implicit = jax.shard_map(
        lambda x, kernel: jax.grad(lambda k: jax.lax.psum(loss(conv2d, "zero")(x, k), "data"))(kernel),
        mesh=mesh,
        in_specs=(spec("data"), spec()),
        out_specs=spec(),
        check_vma=check,
    )
    close(jax.jit(implicit)(x, kernel), jax.grad(loss(plain, "zero"), 1)(x, kernel))


def test_accelerators_get_the_plain_convolution():
    """Lowered for a GPU and a TPU, the weight gradient is one convolution; on CPU it is a matmul."""
    x, kernel = example(2, 7, 6, 3, 3, 3)
    traced = jax.jit(jax.grad(loss(conv2d, "zero"), 1)).trace(x, kernel)
    text = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda", "tpu")}
    assert "dot_general" in text["cpu"]
    assert "dot_general" not in text["cuda"] + text["tpu"]
    assert text["cuda"].count("stablehlo.convolution") == 2 > text["cpu"].count("stablehlo.convolution")
