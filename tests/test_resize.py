"""isr_jax.physics.resize: the pictures MATLAB made, and the mathematics behind them."""

import math

import numpy as np
import pytest
from PIL import Image

from isr_jax.physics.resize import crop_to_multiple, imresize, resize_matrix, resize_weights


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("dataset", ["Set5", "Set14"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_makes_the_pictures_of_matlab_bit_by_bit(shared, dataset, scale):
    for path in sorted((shared / "data" / dataset / "HR").iterdir()):
        hr = np.asarray(Image.open(path))
        lr = np.asarray(Image.open(shared / "data" / dataset / f"LRx{scale}" / path.name))
        np.testing.assert_array_equal(imresize(crop_to_multiple(hr, scale), 1 / scale), lr, err_msg=path.name)


def reference_imresize(image: np.ndarray, scale: float) -> np.ndarray:
    """The definition, pixel by pixel: cubic kernel stretched by 1/scale, mirrored border, rounding after each pass."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def line(values: list[int]) -> list[int]:
        n, shrink, result = len(values), min(scale, 1.0), []
        for i in range(math.ceil(n * scale)):
            centre = (i + 0.5) / scale - 0.5
            total = weight_sum = 0.0
            for j in range(math.floor(centre - 2 / shrink) - 1, math.ceil(centre + 2 / shrink) + 2):
                weight = cubic(shrink * (centre - j))
                mirrored = j % (2 * n)
                total += weight * values[min(mirrored, 2 * n - 1 - mirrored)]
                weight_sum += weight
            result.append(min(max(math.floor(total / weight_sum + 0.5), 0), 255))
        return result

    rows = np.array([line(column) for column in image.T.tolist()]).T
    return np.array([line(row) for row in rows.tolist()], np.uint8)


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 0.5, 0.7, 1.0, 1.5, 2, 3, 4])
def test_is_the_definition(rng, scale):
    image = rng.integers(0, 256, (13, 11), dtype=np.uint8)
    result, expected = imresize(image, scale), reference_imresize(image, scale)
    assert result.dtype == np.uint8
    # where a sum falls exactly on a half, the two orders of summation may round it differently
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= (0 if scale in (0.5, 1, 1.5, 2, 4, 1 / 4) else 1)
    assert (result != expected).mean() < 0.01


def test_float_path_is_the_matrices_and_does_not_clip(rng):
    image = rng.normal(0, 300, (9, 14, 3))
    rows, columns = resize_matrix(9, 4), resize_matrix(14, 21)
    expected = np.einsum("ah,hwc,bw->abc", rows, image, columns)
    np.testing.assert_allclose(imresize(image, size=(4, 21)), expected, rtol=0, atol=1e-10)
    single = imresize(image.astype(np.float32), size=(4, 21))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-3)


def test_matrix_rows_sum_to_one_and_reproduce_a_line():
    for sizes in [(8, 2), (7, 21), (1, 4), (2, 1), (5, 5), (30, 7)]:
        matrix = resize_matrix(*sizes)
        assert matrix.shape == sizes[::-1]
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    line = resize_matrix(40, 10) @ np.arange(40.0)  # a cubic kernel reproduces straight lines away from the border
    np.testing.assert_allclose(line[2:-2], (np.arange(10) * 4 + 1.5)[2:-2], atol=1e-10)


def test_each_type_keeps_its_range(rng):
    small = rng.integers(0, 2, (6, 6, 3), dtype=np.uint8) * 255
    assert imresize(small, 3).min() == 0
    assert imresize(small, 3).max() == 255
    deep = small.astype(np.uint16) * 257
    assert imresize(deep, 3).dtype == np.uint16
    assert imresize(deep, 3).max() == 65535
    np.testing.assert_allclose(imresize(deep, 3) / 257, imresize(small, 3), atol=1.01)


def test_scale_one_and_single_pixels_stay(rng):
    image = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(imresize(image, 1), image)
    np.testing.assert_array_equal(imresize(np.full((1, 1), 77, np.uint8), 4), np.full((4, 4), 77))


def test_crop_to_multiple_cuts_bottom_and_right():
    image = np.arange(7 * 8).reshape(7, 8)
    np.testing.assert_array_equal(crop_to_multiple(image, 3), image[:6, :6])
    assert crop_to_multiple(image, 1).shape == (7, 8)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"image": np.zeros((4, 4)), "scale": 2, "size": (2, 2)}, ValueError),
        ({"image": np.zeros((4, 4))}, ValueError),
        ({"image": np.zeros((4, 4)), "scale": -1}, ValueError),
        ({"image": np.zeros((4, 4)), "size": (0, 2)}, ValueError),
        ({"image": np.zeros((0, 4)), "scale": 2}, ValueError),
        ({"image": np.zeros((1, 4, 4, 3)), "scale": 2}, ValueError),
        ({"image": np.zeros((4, 4), np.int32), "scale": 2}, TypeError),
    ],
)
def test_says_what_it_cannot_resize(arguments, error):
    with pytest.raises(error):
        imresize(**arguments)
    with pytest.raises(ValueError, match="at least 1"):
        resize_weights(0, 3)
