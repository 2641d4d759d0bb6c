"""isr_jax.pictures.images: real files of every kind, made by other software, and damaged ones."""

import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from isr_jax.config import ConfigError, UserError
from isr_jax.pictures.encoding import encode_image
from isr_jax.pictures.images import (
    fill_transparent,
    format_of,
    list_images,
    read_image,
    read_size,
    write_image,
)
from isr_jax.pictures.picture import Picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def random_pixels(rng, channels: int, dtype: type = np.uint8, height=7, width=5) -> np.ndarray:
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)


def saved(image: Image.Image, image_format: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("mode", "image_format", "channels", "alpha"),
    [
        ("L", "PNG", 1, False),
        ("LA", "PNG", 1, True),
        ("RGB", "PNG", 3, False),
        ("RGBA", "PNG", 3, True),
        ("L", "TIFF", 1, False),
        ("LA", "TIFF", 1, True),
        ("RGB", "TIFF", 3, False),
        ("RGBA", "TIFF", 3, True),
        ("L", "BMP", 1, False),
        ("RGB", "BMP", 3, False),
    ],
)
def test_reads_what_pillow_wrote(rng, mode, image_format, channels, alpha):
    pixels = random_pixels(rng, len(mode))
    picture = read_image(saved(Image.fromarray(pixels.squeeze(), mode), image_format))
    np.testing.assert_array_equal(picture.pixels, pixels[..., :channels])
    assert picture.pixels.shape == (7, 5, channels)
    assert picture.format == image_format
    assert (picture.alpha is not None) == alpha
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, pixels[..., -1])


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP", "BMP", "JPEG"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (6, 9)])
def test_written_pictures_come_back(rng, tmp_path, image_format, dtype, channels, alpha, size):
    path = tmp_path / "new" / f"picture.{image_format.lower()}"
    picture = Picture(
        pixels=random_pixels(rng, channels, dtype, *size),
        alpha=random_pixels(rng, 1, dtype, *size)[..., 0] // 2 if alpha else None,
        icc_profile=SRGB if channels == 3 else None,
        resolution=(300, 150),
    )
    if alpha and image_format in ("JPEG", "BMP"):
        with pytest.raises(UserError, match="transparency"):
            write_image(path, picture)
        assert not path.parent.exists()
        return
    write_image(path, picture, quality=100)
    back = read_image(path)
    expected, expected_alpha = picture.pixels, picture.alpha
    if dtype == np.uint16 and image_format not in ("PNG", "TIFF"):
        expected, expected_alpha = (None if x is None else np.round(x / 257) for x in (expected, expected_alpha))
    assert expected is not None
    if back.pixels.shape[2] != channels:  # WebP knows no grey, 16-bit TIFF no grey with alpha
        assert (image_format, channels) in [("WEBP", 1), ("TIFF", 1)]
        expected = expected.repeat(3, axis=2)
    np.testing.assert_allclose(back.pixels, expected, atol=4 if image_format == "JPEG" else 0)
    assert back.pixels.dtype == (dtype if image_format in ("PNG", "TIFF") else np.uint8)
    assert (back.alpha is None) == (expected_alpha is None)
    if expected_alpha is not None:
        np.testing.assert_array_equal(back.alpha, expected_alpha)
    assert back.icc_profile == (picture.icc_profile if image_format != "BMP" else None)
    assert back.resolution == pytest.approx((300, 150), rel=1e-3)
    assert os.listdir(path.parent) == [path.name]


def test_16_bit_png_of_another_encoder(rng):
    """libpng chooses among all five row filters on smooth pictures."""
    tf = pytest.importorskip("tensorflow")
    ramp = np.linspace(0, 60000, 40)[:, None, None] + np.linspace(0, 5000, 31)[None, :, None]
    for channels in (1, 2, 3, 4):
        pixels = (ramp + rng.integers(0, 300, (40, 31, channels))).astype(np.uint16)
        picture = read_image(tf.io.encode_png(pixels).numpy())
        colours = pixels[..., :-1] if channels in (2, 4) else pixels
        np.testing.assert_array_equal(picture.pixels, colours)
        if channels in (2, 4):
            np.testing.assert_array_equal(picture.alpha, pixels[..., -1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_our_png_and_tiff_are_read_by_others(rng, dtype):
    tf = pytest.importorskip("tensorflow")
    tifffile = pytest.importorskip("tifffile")
    for channels in (1, 3, 4):
        pixels = random_pixels(rng, channels, dtype)
        alpha = pixels[..., 3] if channels == 4 else None
        picture = Picture(pixels=pixels[..., :3], alpha=alpha, icc_profile=SRGB, resolution=(72, 72))
        png = tf.io.decode_png(encode_image(picture, "PNG"), dtype=dtype).numpy()
        np.testing.assert_array_equal(png, pixels)
        with tifffile.TiffFile(io.BytesIO(encode_image(picture, "TIFF"))) as file:
            page = file.pages[0]
            np.testing.assert_array_equal(page.asarray().reshape(pixels.shape), pixels)
            assert page.tags["XResolution"].value == (72, 1)


def test_16_bit_tiff_of_another_encoder(rng):
    tifffile = pytest.importorskip("tifffile")
    for channels, photometric in [(1, "minisblack"), (1, "miniswhite"), (3, "rgb"), (4, "rgb")]:
        for order in "<>":
            for compression in (None, "zlib"):
                pixels = random_pixels(rng, channels, np.uint16)
                stream = io.BytesIO()
                extra = ["unassalpha"] if channels == 4 else []
                tifffile.imwrite(
                    stream,
                    pixels.squeeze().astype(f"{order}u2"),
                    byteorder=order,
                    photometric=photometric,
                    compression=compression,
                    extrasamples=extra,
                )
                if (photometric, order) == ("miniswhite", ">"):
                    continue  # Pillow does not know it
                picture = read_image(stream.getvalue())
                expected = 65535 - pixels if photometric == "miniswhite" else pixels
                np.testing.assert_array_equal(picture.pixels, expected[..., :3])
                if channels == 4:
                    np.testing.assert_array_equal(picture.alpha, pixels[..., 3])


def test_16_bit_tiff_with_premultiplied_alpha_is_refused(rng):
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, random_pixels(rng, 4, np.uint16), photometric="rgb", extrasamples=["assocalpha"])
    with pytest.raises(UserError, match="premultiplied"):
        read_image(stream.getvalue())


def test_palette_bilevel_and_single_transparent_colours(rng):
    colours = Image.fromarray(random_pixels(rng, 3)).quantize(8)
    expected = np.asarray(colours.convert("RGB"))
    np.testing.assert_array_equal(read_image(saved(colours, "PNG")).pixels, expected)
    assert read_image(saved(colours, "GIF")).format == "GIF"
    picture = read_image(saved(colours, "PNG", transparency=bytes([0, 128, 255, 255, 255, 255, 255, 255])))
    index = np.asarray(colours)
    np.testing.assert_array_equal(picture.alpha, np.where(index == 0, 0, np.where(index == 1, 128, 255)))
    bits = random_pixels(rng, 1)[..., 0] > 127
    for image_format in ("PNG", "TIFF", "BMP"):
        np.testing.assert_array_equal(read_image(saved(Image.fromarray(bits), image_format)).pixels[..., 0], bits * 255)
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = read_image(saved(Image.fromarray(grey), "PNG", transparency=5))
    np.testing.assert_array_equal(picture.pixels[..., 0], grey)
    np.testing.assert_array_equal(picture.alpha, (grey != 5) * 255)
    picture = read_image(saved(Image.fromarray(np.stack([grey] * 3, 2)), "PNG", transparency=(5, 5, 5)))
    np.testing.assert_array_equal(picture.alpha, (grey != 5) * 255)
    deep = Image.fromarray(grey.astype(np.uint16) * 1000)
    picture = read_image(saved(deep, "PNG", transparency=5000))
    np.testing.assert_array_equal(picture.alpha, (grey != 5) * 65535)


def test_cmyk_becomes_rgb(rng):
    cmyk = Image.fromarray(np.repeat(np.repeat(random_pixels(rng, 4, height=2, width=2), 8, 0), 8, 1), "CMYK")
    for image_format in ("TIFF", "JPEG"):
        picture = read_image(saved(cmyk, image_format, **({"quality": 100} if image_format == "JPEG" else {})))
        np.testing.assert_allclose(
            picture.pixels, np.asarray(cmyk.convert("RGB")), atol=0 if image_format == "TIFF" else 9
        )
        assert picture.alpha is None
    odd = read_image(saved(cmyk, "TIFF", icc_profile=b"not a profile"))
    np.testing.assert_array_equal(odd.pixels, np.asarray(cmyk.convert("RGB")))
    assert odd.icc_profile is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_applied(rng, orientation, image_format):
    blocks = np.repeat(np.repeat(random_pixels(rng, 3, height=2, width=3), 8, 0), 8, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if image_format in ("JPEG", "WEBP") else {}
    resolution = {} if image_format == "WEBP" else {"dpi": (300, 150)}
    stream = saved(Image.fromarray(blocks), image_format, exif=exif, **options, **resolution)
    upright = Image.fromarray(blocks)
    upright.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    picture = read_image(stream)
    assert picture.pixels.shape == expected.shape
    assert np.abs(picture.pixels.astype(int) - expected).mean() < (0.1 if image_format in ("PNG", "TIFF") else 12)
    if resolution:
        assert picture.resolution == pytest.approx((300, 150) if orientation < 5 else (150, 300), rel=1e-3)
    deep = Picture(pixels=blocks[..., :1].astype(np.uint16) * 257)
    assert read_image(encode_image(deep, "PNG")).pixels.shape == (16, 24, 1)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_with_damaged_exif_is_read_without(rng, image_format):
    stream = io.BytesIO()
    pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, image_format, exif=b"Exif\0\0garbagegarbage")
    assert read_image(stream.getvalue()).pixels.shape == (4, 6, 3)


def test_bombs_are_refused_before_decoding():
    bomb = saved(Image.new("1", (20000, 20000)), "PNG")
    assert len(bomb) < 60_000
    with pytest.raises(UserError, match="20000x20000.*`max_pixels`"):
        read_image(bomb)
    small = saved(Image.new("L", (30, 10)), "PNG")
    with pytest.raises(UserError, match="limit of 299"):
        read_image(small, max_pixels=299)
    assert read_image(small, max_pixels=300).pixels.shape == (10, 30, 1)


def test_unusable_files_give_one_line(rng, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    whole = saved(Image.fromarray(random_pixels(rng, 3, height=60, width=60)), "PNG")
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    frames = [Image.fromarray(random_pixels(rng, 3)) for _ in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(rng.normal(size=(4, 4)).astype(np.float32) * 9).save(tmp_path / "float.tiff")
    (tmp_path / "figure.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    reasons = {
        "text.png": "not a picture",
        "empty.png": "is empty",
        "half.png": "damaged",
        "moving.gif": "3 frames",
        "float.tiff": "floating point is on 0..1",
        "figure.eps": "not a picture",
        "missing.png": "No such file",
        "": "Is a directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF", "TIFF jpeg", "TIFF tiff_lzw", "BMP", "GIF"])
def test_mutated_files_are_read_or_refused(rng, image_format, capfd):
    image_format, _, compression = image_format.partition(" ")
    options = {"compression": compression} if compression else {}
    whole = saved(Image.fromarray(random_pixels(rng, 3, height=24, width=24)), image_format, **options)
    lines = []
    for trial in range(40):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(0, min(len(data), 100 if trial % 2 else len(data)))] = rng.integers(0, 256)
        data = data[: rng.integers(1, len(data) + 1)] if trial % 3 == 0 else data
        try:
            picture = read_image(bytes(data), max_pixels=10_000_000)
            assert picture.pixels.dtype in (np.uint8, np.uint16)
        except UserError as error:
            lines.append(str(error))
    assert all(line.startswith("the picture ") and "\n" not in line for line in lines)
    assert capfd.readouterr() == ("", "")


def test_suffix_names_the_format(tmp_path):
    assert format_of("a/B.JPG") == "JPEG"
    for name in ("a.gif", "a", "a.npy"):
        with pytest.raises(ConfigError, match=r"use one of \.png"):
            format_of(name)
    write_image(tmp_path / "grey.png", np.zeros((3, 4), np.uint8))
    assert read_image(tmp_path / "grey.png").pixels.shape == (3, 4, 1)


def test_a_picture_too_large_for_its_format_is_an_error():
    with pytest.raises(UserError, match="17000x1 cannot be written as WEBP"):
        encode_image(Picture(pixels=np.zeros((1, 17000, 3), np.uint8)), "WEBP")


def test_list_images(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt", "sub/c.tif", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png"]
    assert [path.name for path in list_images(tmp_path, recursive=True)] == ["a.JPG", "b.png", "c.tif"]
    with pytest.raises(ConfigError, match="not a folder"):
        list_images(tmp_path / "b.png")


def test_transparent_pixels_take_the_colours_around_them(rng):
    pixels = np.zeros((9, 13, 3), np.uint8)
    alpha = np.zeros((9, 13), np.uint8)
    pixels[:, :5], alpha[:, :5] = (200, 100, 50), 255  # black under the transparent rest
    filled = fill_transparent(pixels, alpha)
    np.testing.assert_array_equal(filled, np.broadcast_to((200, 100, 50), pixels.shape))
    noise, weights = random_pixels(rng, 3, np.uint16), random_pixels(rng, 1)[..., 0] // 64
    filled = fill_transparent(noise, weights)
    np.testing.assert_array_equal(filled[weights > 0], noise[weights > 0])
    np.testing.assert_array_equal(fill_transparent(noise, np.zeros_like(weights)), noise)


def test_the_size_of_a_picture_is_that_which_reading_it_gives(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for orientation in (1, 3, 6, 8):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        for suffix in ("png", "jpg", "webp", "tif"):
            path = tmp_path / f"{orientation}.{suffix}"
            Image.fromarray(pixels).save(path, exif=exif)
            assert read_size(path) == read_image(path).pixels.shape[:2]
    with pytest.raises(UserError, match=r"none\.png"):
        read_size(tmp_path / "none.png")
    with pytest.raises(UserError, match="the album is not a picture"):
        read_size(b"no picture", name="the album")


def test_reading_in_threads_leaves_the_filters_of_warnings_as_they_were(tmp_path):
    palette = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P")
    palette.info["transparency"] = bytes(range(256))
    palette.save(tmp_path / "warns.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: read_image(tmp_path / "warns.png"), range(400)))
    assert warnings.filters == before
