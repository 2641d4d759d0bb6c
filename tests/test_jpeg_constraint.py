"""isr_jax.physics.jpeg_file and jpeg_constraint on files that Pillow writes."""

import io
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from isr_jax.config import UserError
from isr_jax.physics.blur import Blur
from isr_jax.physics.jpeg_constraint import jpeg_constraint, satisfy_jpeg
from isr_jax.physics.jpeg_file import read_jpeg
from isr_jax.physics.jpeg_tables import DCT, quality_tables, table_quality
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.resize import imresize
from isr_jax.physics.sampling import Bicubic, Identity

pytest.importorskip("jpeglib")

KINDS = ["grey", "4:4:4", "4:2:2", "4:2:0"]


def picture(height=61, width=75):
    """Not a multiple of 8, with black and white parts, whose pixels the decoder cuts off."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (16, 19, 3)).astype(np.uint8)
    pixels = imresize(coarse, 4)[:height, :width]
    pixels[:20, :20] = 255
    pixels[5:9, 5:9] = 0
    return pixels


def written(path, kind, quality, pixels=None, **options):
    pixels = picture() if pixels is None else pixels
    image = Image.fromarray(pixels)
    if kind != "grey":
        options["subsampling"] = KINDS.index(kind) - 1
    (image.convert("L") if kind == "grey" else image).save(path, "JPEG", quality=quality, **options)
    return path


def encode_again(y, file, kind, path):
    """What an encoder makes of a picture with the file's own tables: Pillow's, of pixels of 8 bits."""
    pixels = np.clip(np.round(np.asarray(y[0])), 0, 255).astype(np.uint8).squeeze()
    options = {} if kind == "grey" else {"subsampling": KINDS.index(kind) - 1}
    tables = [[int(q) for q in table.ravel()] for table in file.tables[:2]]
    Image.fromarray(pixels).save(path, "JPEG", qtables=tables, **options)
    return read_jpeg(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quality", [10, 50, 90])
def test_after_the_projection_no_coefficient_violates_the_file(tmp_path, kind, quality):
    file = read_jpeg(written(tmp_path / "y.jpg", kind, quality))
    assert file.sampling == {"4:2:2": (1, 2), "4:2:0": (2, 2)}.get(kind, (1, 1))
    constraint = jpeg_constraint(file)
    y = jnp.asarray(np.random.default_rng(1).uniform(0, 255, (1, *file.whole_size, len(file.tables))), jnp.float32)
    assert any(v.any() for v in constraint.violated(y))
    projected = constraint.project(y)
    assert not any(v.any() for v in constraint.violated(projected))
    np.testing.assert_allclose(constraint.project(projected), projected, atol=2e-3)  # idempotent
    # The definition, written out in float64 for one plane: every coefficient rounds to the file's.
    luma = np.asarray(projected[0], np.float64)
    luma = (luma @ [0.299, 0.587, 0.114] if luma.shape[2] == 3 else luma[..., 0]) - 128
    rows, cols = file.coefficients[0].shape[:2]
    for r, c in itertools.product(range(rows), range(cols)):
        block = DCT.astype(np.float64) @ luma[8 * r : 8 * r + 8, 8 * c : 8 * c + 8] @ DCT.T.astype(np.float64)
        np.testing.assert_array_equal(np.round(block / file.tables[0]), file.coefficients[0][r, c])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quality", [20, 75])
def test_the_decoded_file_is_in_the_set_and_is_what_pillow_decodes(tmp_path, kind, quality):
    path = written(tmp_path / "y.jpg", kind, quality)
    file = read_jpeg(path)
    decoded = file.decode()
    assert not any(v.any() for v in jpeg_constraint(file, width=0.5).violated(jnp.asarray(decoded[None], jnp.float32)))
    theirs = np.asarray(Image.open(path), np.float32).reshape(*file.size, -1)
    ours = np.clip(decoded[: file.size[0], : file.size[1]], 0, 255)
    if kind in ("4:2:2", "4:2:0"):  # Pillow smooths the enlarged chroma
        inside = ((theirs > 0) & (theirs < 255)).all(-1)
        ours, theirs = (x[inside] @ np.array([0.299, 0.587, 0.114], np.float32) for x in (ours, theirs))
    assert np.abs(ours - theirs).mean() < 1


@pytest.mark.parametrize("kind", ["grey", "4:4:4", "4:2:0"])
def test_what_an_encoder_makes_of_the_result_are_the_coefficients_of_the_file(tmp_path, kind):
    pixels = (32 + picture(64, 80) * 0.75).astype(np.uint8)  # nothing is cut off where it is written with 8 bits
    file = read_jpeg(written(tmp_path / "y.jpg", kind, 30, pixels))
    noisy = file.decode() + np.random.default_rng(2).normal(0, 8, (*file.whole_size, len(file.tables)))
    result = jpeg_constraint(file, width=0.8).project(jnp.asarray(noisy[None], jnp.float32))
    again = encode_again(result, file, kind, tmp_path / "again.jpg")
    for ours, theirs in zip(again.coefficients, file.coefficients, strict=True):
        assert (ours == theirs).mean() > 0.998
    before = encode_again(noisy[None], file, kind, tmp_path / "noisy.jpg")
    assert (before.coefficients[0] == file.coefficients[0]).mean() < 0.995


@pytest.mark.parametrize("kind", ["grey", "4:2:0"])
def test_the_projection_is_the_nearest_picture_of_the_set(tmp_path, kind):
    """By brute force: no step from it towards any other point of the set brings it nearer."""
    size = 16 if kind == "4:2:0" else 8
    file = read_jpeg(written(tmp_path / "y.jpg", kind, 40, picture(size, size)))
    constraint = jpeg_constraint(file)
    rng = np.random.default_rng(3)
    start = jnp.asarray(rng.uniform(0, 255, (1, size, size, len(file.tables))), jnp.float32)
    colours = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    to_planes = lambda x: np.asarray(x, np.float64) @ colours.T if kind != "grey" else np.asarray(x)  # noqa: E731
    nearest = constraint.project(start)
    for _ in range(100):
        far = start + jnp.asarray(rng.normal(0, rng.choice([1, 10, 100]), start.shape), jnp.float32)
        other = constraint.project(far)
        towards = to_planes(other) - to_planes(nearest)
        away = to_planes(start) - to_planes(nearest)
        assert np.vdot(away, towards) <= 1e-4 * np.linalg.norm(away) * np.linalg.norm(towards)
    # In every coefficient alone, on a grid: the clipped value is the nearest that is allowed.
    if kind == "grey":
        found, got = (DCT @ (np.asarray(x)[0, ..., 0] - 128) @ DCT.T for x in (start, nearest))
        grid = np.linspace(-0.5, 0.5, 101) + file.coefficients[0][0, 0][..., None]
        best = np.abs(grid * file.tables[0][..., None] - found[..., None]).min(-1)
        np.testing.assert_allclose(np.abs(got - found), best, atol=0.02 * file.tables[0].max())


@pytest.mark.parametrize(("kind", "scale"), [("4:4:4", 1), pytest.param("4:2:0", 2, marks=pytest.mark.slow)])
def test_an_enlarged_picture_is_seen_as_the_file(tmp_path, kind, scale):
    file = read_jpeg(written(tmp_path / "y.jpg", kind, 50, picture(37, 43)))
    constraint = jpeg_constraint(file)
    physics = Identity() if scale == 1 else Bicubic(2) @ Blur(gaussian_kernel(0.8))
    x = physics.initial_estimate(jnp.asarray(file.decode()[None], jnp.float32))
    x = x + jnp.asarray(np.random.default_rng(0).normal(0, 6, x.shape), jnp.float32)
    assert any(v.any() for v in constraint.violated(physics.apply(x)))
    result = jax.jit(satisfy_jpeg)(jpeg_constraint(file, width=0.98), physics, x)
    assert not any(v.any() for v in constraint.violated(physics.apply(result)))
    assert float(jnp.abs(result - x).mean()) < 10


def test_progressive_files_and_those_that_are_none(tmp_path):
    plain = read_jpeg(written(tmp_path / "a.jpg", "4:2:2", 60))
    progressive = read_jpeg(written(tmp_path / "b.jpg", "4:2:2", 60, progressive=True))
    for ours, theirs in zip(plain.coefficients, progressive.coefficients, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    Image.fromarray(picture()).save(tmp_path / "c.png")
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "d.jpg")
    Image.fromarray(picture()).save(tmp_path / "e.jpg", keep_rgb=True)
    for name, message in (("c.png", "not a JPEG"), ("d.jpg", "other colours"), ("e.jpg", "other colours")):
        with pytest.raises(UserError, match=message):
            read_jpeg(tmp_path / name)
    with pytest.raises(UserError, match="No such file"):
        read_jpeg(tmp_path / "none.jpg")


@pytest.mark.parametrize("quality", [5, 25, 50, 75, 92, 98])
def test_the_tables_are_libjpegs(quality):
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "JPEG", quality=quality)
    tables = Image.open(stream).quantization
    np.testing.assert_array_equal(np.reshape([tables[0], tables[1]], (2, 8, 8)), quality_tables(quality))
    assert table_quality(np.reshape(tables[0], (8, 8))) == quality
