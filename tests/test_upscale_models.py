"""isr_jax.upscale_models: which model enlarges a picture that none is named for."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import isr_jax
from isr_jax import upscale
from isr_jax.__main__ import exit_code
from isr_jax.inference.automatic import default_model, model_for
from isr_jax.inference.estimate import estimate_degradation
from isr_jax.inference.jpeg_agreement import agree_with_jpeg
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import read_image, write_image


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """Edges, texture and colours, as photographs have them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :192]
    picture = np.full((192, 192, 3), 128.0)
    for _ in range(700):
        row, col, radius = rng.uniform(0, 192), rng.uniform(0, 192), min(3 / rng.uniform(0.03, 1), 60)
        picture[(y - row) ** 2 + (x - col) ** 2 < radius**2] = rng.uniform(20, 235) + rng.uniform(-20, 20, 3)
    return imresize(picture, 0.5).clip(0, 255).astype(np.uint8)


def jpeg(pixels, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


def enlarged(tmp_path, *options):
    target = tmp_path / "out.png"
    argv = [*map(str, options), "-o", str(target), "--overwrite"]
    assert exit_code(upscale.main, argv) == 0
    return read_image(target).pixels.astype(int)


def test_isr_lite_for_clean_pictures_and_isr_any_for_what_is_said_or_seen_of_others(photo, tmp_path, capfd):
    clean, noisy, file = (tmp_path / name for name in ("clean.png", "noisy.png", "file.jpg"))
    write_image(clean, photo)
    noise = np.random.default_rng(1).normal(0, 20, photo.shape)
    write_image(noisy, (photo + noise).clip(0, 255).astype(np.uint8))
    file.write_bytes(jpeg(photo, quality=40))
    lite, several = isr_jax.load("isr-lite-x2"), isr_jax.load("isr-any")
    for path in (clean, noisy, file):
        pixels, estimate = read_image(path).pixels, estimate_degradation(path, scale=2)
        assert estimate.clean == (path == clean)
        expected = lite.upscale(pixels) if estimate.clean else several.upscale(pixels, **estimate.known(jpeg=True))
        np.testing.assert_allclose(enlarged(tmp_path, path, "--scale", 2), expected, atol=1)
        name = "isr-lite-x2" if estimate.clean else "isr-any"
        assert f"taken for: {estimate} ({name})\n" in capfd.readouterr().err
    told = several.upscale(photo, scale=2, blur=0.8, noise_std=estimate_degradation(clean, scale=2).noise_std)
    np.testing.assert_allclose(enlarged(tmp_path, clean, "--scale", 2, "--blur", 0.8), told, atol=1)
    expected = lite.upscale(read_image(noisy).pixels)
    np.testing.assert_array_equal(enlarged(tmp_path, noisy, "--scale", 2, "--no-inspect"), expected)
    assert "taken for" not in capfd.readouterr().err.splitlines()[-1]
    shrunk = enlarged(tmp_path, noisy, "--scale", 0.5)
    np.testing.assert_allclose(shrunk, imresize(read_image(noisy).pixels.astype(float), 0.5).clip(0, 255), atol=1)


def test_a_frame_stays_as_it_is_however_much_is_said(photo, tmp_path, capfd):
    soft = imresize(imresize(photo.astype(float), 0.4), size=photo.shape[:2])
    bars = np.pad(soft.clip(0, 255).round().astype(np.uint8), ((24, 24), (0, 0), (0, 0)))
    write_image(tmp_path / "bars.png", bars)
    for said in ([], ["--blur", 2, "--noise", 0, "--jpeg", 100]):
        result = enlarged(tmp_path, tmp_path / "bars.png", "--scale", 2, *said)
        assert (result[:48] == 0).all()
        assert (result[-48:] == 0).all()
        assert "in a frame" in capfd.readouterr().err


def test_the_shipped_model_of_a_scale():
    assert [default_model(scale) for scale in (1, 1.5, 2.5, 8)] == [f"isr-lite-x{n}" for n in (2, 2, 3, 4)]


def test_the_shipped_model_for_what_an_estimate_says(photo):
    noise = np.random.default_rng(1).normal(0, 20, photo.shape)
    soft = np.asarray(Blur(gaussian_kernel(0.8)).apply(jnp.asarray(photo[None], jnp.float32)))[0]
    pictures = (photo, soft, photo + noise)
    clean, blurred, noisy = (estimate_degradation(x.clip(0, 255).round().astype(np.uint8)) for x in pictures)
    lite, blind = "isr-lite-x2", "isr-blind-x4"
    assert [model_for(clean, factor) for factor in (1, 4)] == [lite, "isr-lite-x4"]
    assert [model_for(blurred, factor) for factor in (0.5, 3, 3.1, 8)] == [lite, "isr-any", blind, blind]
    assert [model_for(noisy, factor) for factor in (0.5, 3, 4)] == [lite, "isr-any", "isr-any"]
    compressed = estimate_degradation(jpeg(soft.round().astype(np.uint8), quality=60))
    assert model_for(compressed, 4) == "isr-any"


def test_a_jpeg_that_keeps_its_size_is_cleaned_within_what_its_file_says(photo, tmp_path, capfd):
    pytest.importorskip("jpeglib")
    from isr_jax.physics.jpeg_constraint import jpeg_constraint
    from isr_jax.physics.jpeg_file import read_jpeg

    file = tmp_path / "photo.jpg"
    file.write_bytes(jpeg(photo, quality=20, subsampling=0))
    decoded = read_image(file).pixels
    cleaned = enlarged(tmp_path, file, "--scale", 1)
    assert cleaned.shape == photo.shape
    constraint = jpeg_constraint(read_jpeg(file))
    assert not any(plane.any() for plane in constraint.violated(jnp.asarray(cleaned[None], jnp.float32)))
    assert np.abs(cleaned - photo.astype(int)).mean() < np.abs(decoded - photo.astype(int)).mean()
    held = agree_with_jpeg(decoded.astype(np.float32), file, decoded)
    assert np.abs(held - decoded).mean() < 1  # it agreed before
    # Of another picture, or none, a file says nothing; bytes do as well as a path.
    other = decoded[::-1].astype(np.float32)
    for source in (file, b"", b"\xff\xd8 no picture", jpeg(photo[:40], quality=20)):
        np.testing.assert_array_equal(agree_with_jpeg(other, source, decoded[::-1]), other)
    soft = decoded.astype(np.float32) * 0.9 + 12
    by_path, by_bytes = (agree_with_jpeg(soft, source, decoded) for source in (file, file.read_bytes()))
    np.testing.assert_array_equal(by_path, by_bytes)
    assert np.abs(by_path - soft).mean() > 0.1


def test_strips_are_the_whole(photo, tmp_path, monkeypatch):
    pytest.importorskip("jpeglib")
    for subsampling in (0, 1, 2):
        data = jpeg(photo[:83], quality=30, subsampling=subsampling)
        decoded = np.asarray(Image.open(io.BytesIO(data)))
        soft = decoded.astype(np.float32) * 0.8 + 20
        monkeypatch.setattr("isr_jax.inference.jpeg_agreement.STRIP", 512)
        whole = agree_with_jpeg(soft, data, decoded)
        monkeypatch.setattr("isr_jax.inference.jpeg_agreement.STRIP", 16)
        np.testing.assert_allclose(agree_with_jpeg(soft, data, decoded), whole, atol=1e-3)
        assert np.abs(whole - soft).mean() > 1
