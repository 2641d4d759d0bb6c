"""isr_jax.pictures.repair: JPEG files cut anywhere, PNG files with damage beside the pixels."""

import io
import re

import numpy as np
import pytest
from picture_cases import PIXELS, chunk, gamma, png_with, saved
from PIL import Image

from isr_jax.config import UserError
from isr_jax.pictures.images import read_image, read_size

_NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_read_only_where_all_its_pixels_are_there(progressive):
    data = saved(Image.fromarray(_NOISE), "JPEG", quality=60, progressive=progressive)
    whole = read_image(data)
    assert whole.remarks == ()
    for end in (1, 2):
        picture = read_image(data[:-end])
        assert len(picture.remarks) == 1
        assert "lacks its end" in picture.remarks[0]
        np.testing.assert_array_equal(picture.pixels, whole.pixels)
    scans = [match.start() + 1 for match in re.finditer(b"\xff[\xc4\xda]", data)]
    read = 0
    for end in [*range(len(data) - 60, len(data) - 2), *range(0, len(data), 31), *scans]:
        try:
            picture = read_image(data[:end])
        except UserError:
            continue
        read += 1
        np.testing.assert_array_equal(picture.pixels, whole.pixels)
    assert read < 3


def test_what_follows_a_jpeg_does_no_harm():
    data = saved(Image.fromarray(_NOISE), "JPEG")
    assert read_image(data + b"\0" * 100).remarks == ()
    assert read_image(data + b"a trailer of a phone").remarks == ()


@pytest.mark.parametrize(
    ("damaged", "name"),
    [
        (chunk(b"tEXt", b"Comment\0hello", 7), "tEXt"),
        (chunk(b"zTXt", b"Comment\0\0hello", 7), "zTXt"),
        (chunk(b"iCCP", b""), "iCCP"),
        (chunk(b"iCCP", b"name\0\0no deflate", 7), "iCCP"),
        (chunk(b"gAMA", b"\0"), "gAMA"),
        (chunk(b"cHRM", b"\0" * 8), "cHRM"),
        (chunk(b"pHYs", b"\0"), "pHYs"),
        (chunk(b"eXIf", b"II*\0", 7), "eXIf"),
        (chunk(b"prVt", b"anything", 7), "prVt"),
    ],
)
def test_damaged_chunks_of_a_png_are_named_and_left_out(damaged, name):
    picture = read_image(png_with(gamma(0.45455), damaged))
    assert len(picture.remarks) == 1
    assert f"({name})" in picture.remarks[0]
    np.testing.assert_array_equal(picture.pixels, PIXELS)
    assert read_size(png_with(damaged)) == (24, 36)


def test_a_damaged_profile_is_left_out_and_said():
    for profile in (b"not a profile", b"\0" * 36 + b"acsp" + b"\0" * 200):
        for image_format in ("PNG", "JPEG", "WEBP", "TIFF"):
            picture = read_image(saved(Image.fromarray(PIXELS), image_format, icc_profile=profile))
            assert picture.icc_profile is None
            assert "profile" in picture.remarks[0]


def test_damage_to_the_pixels_stays_an_error():
    data = bytearray(png_with())
    at = data.index(b"IDAT") + 30
    data[at : at + 4] = b"\0\0\0\0"
    with pytest.raises(UserError, match="damaged"):
        read_image(bytes(data))
    data = bytearray(png_with())
    data[20] ^= 1  # the width, so that the head's checksum is wrong
    with pytest.raises(UserError, match="damaged"):
        read_image(bytes(data))
    with pytest.raises(UserError, match="damaged"):
        read_image(io.BytesIO(bytes(data)).getvalue()[:40])
