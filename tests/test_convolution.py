"""conv2d against sums written out with NumPy, and its derivatives against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from isr_jax.convolution import conv2d


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
    with pytest.raises(ValueError, match="3 channels where the kernel reads 2"):
        conv2d(x, kernel[:, :, :2])
    with pytest.raises(ValueError, match="border is 'wrap'"):
        conv2d(x, kernel, border="wrap")
