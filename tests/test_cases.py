"""Kinds of pictures that people reported to programs like this one, through the commands; from two makers."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from colours import ADOBE_TO_SRGB, P3_TO_SRGB, as_seen, srgb_of
from picture_cases import PIXELS, make_cases
from PIL import ExifTags, Image

from isr_jax import evaluate, upscale
from isr_jax.__main__ import exit_code
from isr_jax.inference.upscaler import Upscaler, load
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import read_image


@pytest.fixture(scope="module", params=["ours", "shared"])
def cases(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    if request.param == "ours":
        make_cases(folder)
    else:
        script = request.getfixturevalue("shared") / "cases" / "make_cases.py"
        if not script.is_file():
            pytest.skip(f"{script} is not there")
        subprocess.run([sys.executable, script, folder], check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def model() -> Upscaler:
    return load("isr-lite-x2")


@pytest.fixture
def upscaled(cases, tmp_path, capfd, monkeypatch):
    """Returns a function that upscales a case: the exit code, where it went, and what was said besides the bar."""

    def run(name: str, *options, out: str | None = None, engine=("--model", "bicubic", "--scale", "2")):
        target = tmp_path / (out or name)
        code = exit_code(upscale.main, [str(cases / name), "-o", str(target), *engine, *map(str, options)])
        lines = [line for line in capfd.readouterr().err.splitlines() if not re.match(r"\d+/\d+ ", line)]
        return code, target, lines

    return run


def test_a_thumbnail_page_is_no_second_picture(upscaled):
    code, target, lines = upscaled("thumbnail.tif")
    assert (code, lines) == (0, [])
    np.testing.assert_array_equal(read_image(target).pixels, imresize(PIXELS, 2))


@pytest.mark.parametrize("out", ["jpg", "png", "webp", "tif", "avif", "bmp"])
@pytest.mark.parametrize(
    ("name", "matrix", "exponent"),
    [
        ("adobe_rgb_by_exif.jpg", ADOBE_TO_SRGB, 563 / 256),
        ("display_p3.png", P3_TO_SRGB, 2.2),
        ("gamma_1.png", np.eye(3), 1),
    ],
)
def test_colours_said_without_a_profile_are_kept(upscaled, cases, name, matrix, exponent, out):
    code, target, lines = upscaled(name, "--quality", 100, out=f"out.{out}")
    assert (code, lines) == (0, [])
    with Image.open(cases / name) as image:
        raw = np.asarray(image.convert("RGB"))
    expected = srgb_of(imresize(raw, 2), matrix, exponent)
    difference = np.abs(as_seen(target.read_bytes()) - expected)
    assert np.median(difference) < 2
    assert difference.mean() < 4  # at the blue edge AVIF and JPEG ring in linear light


def test_hdr_keeps_its_chunk_or_warns(upscaled):
    code, target, lines = upscaled("hdr_pq.png")
    assert (code, lines) == (0, [])
    assert b"\0\0\0\x04cICP\x09\x10\x00\x01" in target.read_bytes()
    code, _, lines = upscaled("hdr_pq.png", out="out.tif")
    assert code == 0
    assert len(lines) == 1
    assert "HDR (PQ)" in lines[0]


def test_folders_name_what_they_leave_out(upscaled, cases, tmp_path, capfd):
    code, target, lines = upscaled("folder")
    assert code == 3
    assert sorted(path.stem for path in target.iterdir()) == ["a", "b", "c", "d"]
    assert "e.heic" in lines[0]
    for path in target.iterdir():
        assert read_image(path).pixels.shape == (48, 72, 3)


@pytest.mark.parametrize(("name", "limit"), [("too_wide.webp", 16383), ("too_wide.jpg", 65500)])
def test_limits_of_a_format_are_said_before_the_work(upscaled, monkeypatch, name, limit):
    def fail(*_):
        raise AssertionError("it worked on it")

    monkeypatch.setattr("isr_jax.inference.bicubic.BicubicUpscaler.upscale_picture", fail)
    code, target, lines = upscaled(name, engine=("--model", "bicubic", "--scale", "4"))
    assert (code, len(lines)) == (1, 1)
    assert re.search(rf"{limit} pixels a side: write PNG", lines[0])
    assert not target.exists()


def test_a_jpeg_without_its_end_and_one_that_is_cut(upscaled, cases):
    code, target, lines = upscaled("no_end.jpg", out="out.png")
    assert (code, len(lines)) == (0, 1)
    assert "lacks its end" in lines[0]
    with Image.open(cases / "no_end.jpg") as image:
        assert image.size == (36, 24)
    whole = read_image((cases / "no_end.jpg").read_bytes() + b"\xff\xd9")
    assert whole.remarks == ()
    np.testing.assert_array_equal(read_image(target).pixels, imresize(whole.pixels, 2))
    code, target, lines = upscaled("cut.jpg")
    assert (code, len(lines)) == (1, 1)
    assert "damaged" in lines[0]
    assert not target.exists()


def test_a_bmp_of_five_six_and_five_bits(upscaled, cases):
    code, target, lines = upscaled("565.bmp")
    assert (code, lines) == (0, [])
    with Image.open(cases / "565.bmp") as image:
        np.testing.assert_array_equal(read_image(target).pixels, imresize(np.asarray(image), 2))


@pytest.mark.parametrize("name", ["resolution.png", "resolution.webp"])
def test_a_resolution_that_is_no_number_is_dropped(upscaled, name):
    code, target, lines = upscaled(name, "--quality", 100)
    assert (code, lines) == (0, [])
    picture = read_image(target)
    assert picture.resolution is None
    np.testing.assert_array_equal(picture.pixels, imresize(PIXELS, 2))


def test_a_damaged_kernel_is_one_line(upscaled, cases):
    kernel = cases / "damaged_kernel.npy"
    code, target, lines = upscaled("565.bmp", "--blur", kernel, engine=("--model", "isr-lite-x2"))
    assert (code, len(lines)) == (2, 1)
    assert str(kernel) in lines[0]
    assert not target.exists()


@pytest.mark.parametrize(("name", "part"), [("text_checksum.png", "tEXt"), ("empty_profile.png", "iCCP")])
def test_damage_beside_the_pixels_is_named(upscaled, name, part):
    code, target, lines = upscaled(name)
    assert (code, len(lines)) == (0, 1)
    assert part in lines[0]
    np.testing.assert_array_equal(read_image(target).pixels, imresize(PIXELS, 2))


def test_names_of_data_sets(cases, capfd):
    argv = ["--model", "bicubic", "--scale", "4", "--data"]
    assert exit_code(evaluate.main, [*argv, str(cases / "div2k_names")]) == 0
    capfd.readouterr()
    assert exit_code(evaluate.main, [*argv, str(cases / "two_of_a_name")]) == 1
    said = capfd.readouterr().err
    assert "0001.bmp" in said
    assert "0001.png" in said


@pytest.mark.parametrize("out", ["jpg", "png", "webp", "tif", "avif"])
def test_what_a_file_says_of_its_picture_is_kept(upscaled, out):
    code, target, lines = upscaled("metadata.jpg", out=f"out.{out}")
    assert (code, lines) == (0, [])
    with Image.open(target) as image:
        assert image.size == (48, 72)
        exif = image.getexif()
        said = {exif.get(tag) for tag in (0x010E, 0x8298, 0x0132, 0x0110)}
        assert said == {"a description", "(c) someone", "2024:05:06 07:08:09", "a camera"}
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert b"a comment" in target.read_bytes()
    code, target, _ = upscaled("metadata.jpg", "--strip", out=f"bare.{out}")
    assert code == 0
    for word in (b"a description", b"someone", b"2024:05:06", b"a camera", b"a comment"):
        assert word not in target.read_bytes()


def test_floating_point_from_python(cases, model):
    unit = np.load(cases / "unit_range.npy")
    with pytest.raises(ValueError, match="say value_range=1"):
        model.upscale(unit)
    np.testing.assert_allclose(model.upscale(unit, value_range=1) * 255, model.upscale(PIXELS * 1.0), atol=0.05)
    with pytest.raises(ValueError, match="NaN"):
        model.upscale(np.load(cases / "nan.npy"))


def test_a_shipped_model_on_the_cases(upscaled, cases):
    done = ["thumbnail.tif", "adobe_rgb_by_exif.jpg", "gamma_1.png", "565.bmp", "metadata.jpg", "no_end.jpg"]
    for name in done:
        code, target, _ = upscaled(name, engine=("--model", "isr-lite-x2"))
        assert code == 0
        assert sorted(read_image(target).pixels.shape) == [3, 48, 72]
