"""isr_jax.pictures.colour: profiles made of what files say, which of it wins, and what cannot be written."""

import io
import struct

import numpy as np
import pytest
from colours import ADOBE_TO_SRGB, P3_TO_SRGB, srgb_of
from picture_cases import DISPLAY_P3, PICTURE, PIXELS, adobe_rgb_exif, chunk, gamma, png_with, primaries, saved
from PIL import Image, ImageCms

from isr_jax.pictures.colour import convert_to_srgb, make_profile
from isr_jax.pictures.encoding import encode_image, fit_to_format
from isr_jax.pictures.images import read_image
from isr_jax.pictures.picture import Picture

D65 = (0.3127, 0.3290)
SRGB = (D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = (D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROFILE = make_profile(P3, 1.8)
SRGB_CHUNK = chunk(b"sRGB", b"\0")
SRGB_POINTS = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


@pytest.mark.parametrize(
    ("points", "exponent", "matrix"),
    [(P3, None, P3_TO_SRGB), (P3, 1.0, P3_TO_SRGB), (ADOBE, 563 / 256, ADOBE_TO_SRGB), (SRGB, 1.8, np.eye(3))],
)
def test_a_profile_means_its_colours_to_littlecms(points, exponent, matrix):
    profile = make_profile(points, exponent)
    parsed = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    assert parsed.is_matrix_shaper
    assert struct.unpack(">I", profile[:4]) == (len(profile),)
    assert "says of its colours" in parsed.profile_description
    pixels = np.random.default_rng(0).integers(40, 216, (30, 30, 3)).astype(np.uint8)
    converted = convert_to_srgb(pixels, profile)
    np.testing.assert_allclose(converted, srgb_of(pixels, matrix, exponent), atol=3)
    assert np.abs(converted - srgb_of(pixels, matrix, exponent)).mean() < 0.6


def test_srgb_itself_needs_no_profile():
    assert make_profile(SRGB, None) is None
    for chunks in [(SRGB_CHUNK,), (gamma(0.45455),), (gamma(0.45455), primaries(SRGB_POINTS)), (SRGB_CHUNK, gamma(1))]:
        assert read_image(png_with(*chunks)).icc_profile is None
    assert read_image(png_with(chunk(b"cICP", bytes([1, 13, 0, 1])))).icc_profile is None


def test_an_embedded_profile_always_wins():
    cicp = chunk(b"cICP", bytes([9, 16, 0, 1]))
    with_profile = saved(PICTURE, "PNG", icc_profile=PROFILE)
    for chunks in (gamma(1) + primaries(DISPLAY_P3), cicp):
        picture = read_image(with_profile[:33] + chunks + with_profile[33:])
        assert (picture.icc_profile, picture.remarks) == (PROFILE, ())
    assert picture.cicp == (9, 16, 0, 1)
    again = encode_image(picture, "PNG")  # for a browser cICP wins: both are kept
    assert (read_image(again).icc_profile, read_image(again).cicp) == (PROFILE, picture.cicp)
    for image_format in ("JPEG", "WEBP", "TIFF", "AVIF"):
        data = saved(PICTURE, image_format, icc_profile=PROFILE, exif=adobe_rgb_exif().tobytes())
        assert read_image(data).icc_profile == PROFILE
        assert read_image(encode_image(read_image(data), image_format)).icc_profile == PROFILE


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "PNG", "AVIF"])
def test_adobe_rgb_by_exif_in_every_format(image_format):
    picture = read_image(saved(PICTURE, image_format, exif=adobe_rgb_exif().tobytes()))
    assert picture.icc_profile == make_profile(ADOBE, 563 / 256)
    exif = adobe_rgb_exif()
    exif.get_ifd(0x8769)[0xA001] = 1  # sRGB
    assert read_image(saved(PICTURE, image_format, exif=exif.tobytes())).icc_profile is None


def test_impossible_colours_are_said():
    line = (31270, 32900, 64000, 33000, 64000, 33000, 15000, 6000)
    for chunks in ([gamma(0)], [primaries((0,) * 8)], [primaries(line)], [chunk(b"cICP", bytes([77, 99, 0, 1]))]):
        picture = read_image(png_with(*chunks))
        np.testing.assert_array_equal(picture.pixels, PIXELS)
        assert picture.icc_profile is None
        assert "taken as sRGB" in picture.remarks[0]


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_kept_in_a_png_and_else_said(transfer):
    picture = read_image(png_with(chunk(b"cICP", bytes([9, transfer, 0, 1]))))
    assert picture.remarks == ()
    for dtype in (np.uint8, np.uint16):
        deep = Picture(pixels=picture.pixels.astype(dtype), cicp=picture.cicp)
        assert read_image(encode_image(deep, "PNG")).cicp == (9, transfer, 0, 1)
    assert fit_to_format(picture, "PNG").remarks == ()
    for image_format in ("JPEG", "TIFF", "WEBP", "AVIF", "BMP"):
        assert "HDR" in fit_to_format(picture, image_format).remarks[0]
    limited = read_image(png_with(chunk(b"cICP", bytes([1, 1, 0, 0]))))
    assert "limited range" in fit_to_format(limited, "JPEG").remarks[0]


def test_grey_profiles_where_there_is_no_grey():
    profile = make_profile(SRGB, 1.4, grey=True)
    ramp = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8, 1)
    picture = Picture(pixels=ramp, icc_profile=profile)
    expected = srgb_of(ramp.repeat(3, 2), np.eye(3), 1.4)
    for image_format in ("WEBP", "BMP"):
        back = read_image(encode_image(picture, image_format, quality=100))
        assert back.icc_profile is None
        np.testing.assert_allclose(back.pixels, expected, atol=2)
    for image_format in ("PNG", "JPEG", "TIFF", "AVIF"):
        assert read_image(encode_image(picture, image_format)).icc_profile == profile
    in_colour = read_image(saved(PICTURE, "PNG", icc_profile=profile))
    assert in_colour.icc_profile is None
    assert "not for such pixels" in in_colour.remarks[0]


def test_a_jpeg_2000_file_brings_its_profile():
    data = bytearray(saved(PICTURE, "JPEG2000"))
    at = data.index(b"colr") - 4
    (size,) = struct.unpack(">I", data[at : at + 4])
    box = struct.pack(">I4s3B", 11 + len(PROFILE), b"colr", 2, 0, 0) + PROFILE
    data[at : at + size] = box
    header = data.index(b"jp2h") - 4
    (old,) = struct.unpack(">I", data[header : header + 4])
    data[header : header + 4] = struct.pack(">I", old + len(box) - size)
    picture = read_image(bytes(data))
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert picture.icc_profile == PROFILE


def test_written_to_bmp_colours_become_srgb():
    for picture in (read_image(png_with(gamma(1))), read_image(saved(PICTURE, "JPEG", exif=adobe_rgb_exif()))):
        shown = convert_to_srgb(picture.pixels, picture.icc_profile)
        with Image.open(io.BytesIO(encode_image(picture, "BMP"))) as image:
            np.testing.assert_array_equal(np.asarray(image), shown)
