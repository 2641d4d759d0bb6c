"""isr_jax.upscale: files, folders and pipes through the command, good ones and bad ones."""

import dataclasses
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import ExifTags, Image
from random_model import SEVERAL, random_model

from isr_jax import upscale
from isr_jax.__main__ import exit_code
from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.inference import programs
from isr_jax.inference.estimate import estimate_degradation
from isr_jax.inference.upscaler import Upscaler, load
from isr_jax.models.model_file import save_model
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import read_image, write_image
from isr_jax.pictures.picture import Picture
from isr_jax.solver.unrolled import ISRResCNet

ERD = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3)


@pytest.fixture(scope="module", autouse=True)
def program_cache(tmp_path_factory):
    """Keeps the programs compiled here out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model() -> ISRResCNet:
    return ISRResCNet(ModelConfig(scale=2, num_stages=1, physics="none", prior=ERD), rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def model_file(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, model)
    return path


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def run(*argv) -> int:
    return exit_code(upscale.main, [*map(str, argv)])


def bicubic(*argv) -> int:
    return run(*argv, "--model", "bicubic", "--scale", 2)


def test_a_file_becomes_what_the_model_makes_of_it(model, model_file, pixels, tmp_path):
    write_image(tmp_path / "in.png", pixels)
    expected = Upscaler(model).upscale(pixels)
    assert run(tmp_path / "in.png", "--output", tmp_path / "new" / "out.png", "--model", model_file) == 0
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "out.png").pixels, expected)
    assert run(tmp_path / "in.png", "--output", tmp_path / "out.npy", "--model", model_file) == 0
    exact = np.load(tmp_path / "out.npy")
    assert exact.dtype == np.float32
    np.testing.assert_allclose(exact, Upscaler(model).upscale(pixels.astype(np.float32)), atol=2e-3)
    assert run(tmp_path / "in.png", "--output", tmp_path / "plus.npy", "--model", model_file, "--ensemble") == 0
    plus = Upscaler(model, ensemble=True).upscale(pixels.astype(np.float32))
    np.testing.assert_allclose(np.load(tmp_path / "plus.npy"), plus, atol=2e-3)
    assert run(tmp_path / "in.png", "--output", tmp_path / "small.png", "--model", model_file, "--scale", 1.5) == 0
    assert read_image(tmp_path / "small.png").pixels.shape == (9, 12, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "new", "out.npy", "plus.npy", "small.png"]


def test_without_a_model_the_shipped_one_of_the_scale(pixels, tmp_path):
    write_image(tmp_path / "in.png", pixels)
    for options, name in [((), "isr-lite-x4"), (("--scale", 3), "isr-lite-x3"), (("--scale", 2), "isr-lite-x2")]:
        assert run(tmp_path / "in.png", "-o", tmp_path / "out.png", *options) == 0
        np.testing.assert_array_equal(read_image(tmp_path / "out.png").pixels, load(name).upscale(pixels))


def test_sizes(pixels, tmp_path, capfd):
    write_image(tmp_path / "in.png", pixels)  # 8 x 6
    for options, size, said in [
        (("--size", "12x12"), (9, 12), r"8x6 -> 12x9 \(within 12x12; --fit cover or stretch fills it\)"),
        (("--size", "12x12", "--fit", "cover"), (12, 12), "8x6 -> 12x12, "),
        (("--size", "12X12", "--fit", "stretch"), (12, 12), "8x6 -> 12x12, "),
        (("--width", 20), (15, 20), "8x6 -> 20x15, "),
        (("--height", 3), (3, 4), "8x6 -> 4x3, "),
        (("--longest", 16), (12, 16), "8x6 -> 16x12, "),
    ]:
        for model in ((), ("--model", "bicubic")):
            assert run(tmp_path / "in.png", "-o", tmp_path / "out.png", *options, *model) == 0
            assert read_image(tmp_path / "out.png").pixels.shape == (*size, 3)
            assert re.search(said, capfd.readouterr().err)
    for options, message in [
        (("--size", "12"), "--size is 12; give width and height in pixels, as 1920x1080"),
        (("--size", "0x12"), "--size is 0x12; give width and height"),
        (("--size", "12x12", "--scale", 2), "--scale and --size exclude each other: give one"),
        (("--width", 0), "--width is 0; choose a whole number of pixels"),
        (("--longest", 8, "--fit", "cover"), "--fit cover has a meaning only with --size"),
        (("--longest", 800), "an enlargement by 100 is asked for; isr-lite-x4 is made for x4, and can do no more"),
    ]:
        assert run(tmp_path / "in.png", "-o", tmp_path / "out.png", *options) == 2
        assert re.fullmatch(f"isr-jax: .*{message}.*\n", capfd.readouterr().err)


def test_two_paths_can_be_repeated_and_what_is_told_is_said(pixels, tmp_path, capfd):
    write_image(tmp_path / "in.png", pixels)
    paths = (tmp_path / "in.png", tmp_path / "out.png")
    assert bicubic(*paths) == 0
    before = (tmp_path / "out.png").stat().st_mtime_ns
    assert bicubic(*paths, "--skip-existing") == 0
    assert (tmp_path / "out.png").stat().st_mtime_ns == before
    assert bicubic(*paths) == 2
    assert bicubic(tmp_path / "in.png", "-", "--json-lines") == 2
    assert "--json-lines and --output - would both write" in capfd.readouterr().err
    assert bicubic(tmp_path / "in.png", tmp_path / "in.png", "-o", tmp_path / "folder") == 0  # one picture, named twice
    assert run(*paths, "--overwrite", "--scale", 2, "--blur", 0.8, "--noise", 3) == 0
    assert "(isr-any); told instead: blur 0.8, noise 3.0" in capfd.readouterr().err
    assert bicubic(tmp_path / "in.png", "-o", tmp_path / "out.png", "--format", "jpg") == 2
    assert "--format jpg and --output" in capfd.readouterr().err
    (tmp_path / "bad.png").write_text("no picture")
    (tmp_path / "many").mkdir()
    for name, source in (("a.png", "in.png"), ("b.png", "bad.png")):
        (tmp_path / "many" / name).write_bytes((tmp_path / source).read_bytes())
    again = (tmp_path / "many", "-o", tmp_path / "made", "--skip-existing")
    assert [bicubic(*again), bicubic(*again)] == [3, 3]  # the second time, too, one is there and one is not


def test_what_is_not_transparent_anywhere_can_be_a_jpeg(pixels, tmp_path):
    write_image(tmp_path / "in.png", Picture(pixels=pixels, alpha=np.full(pixels.shape[:2], 255, np.uint8)))
    assert bicubic(tmp_path / "in.png", "-o", tmp_path / "out.jpg") == 0
    assert read_image(tmp_path / "out.jpg").pixels.shape == (12, 16, 3)


def test_bicubic_is_imresize(pixels, tmp_path):
    write_image(tmp_path / "in.png", pixels)
    assert bicubic(tmp_path / "in.png", "--output", tmp_path / "out.png") == 0
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").pixels, imresize(pixels, 2))
    assert bicubic(tmp_path / "in.png", "--output", tmp_path / "out.npy") == 0
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), imresize(pixels.astype(np.float32), 2), atol=1e-3)


def test_kernels_that_are_none_and_arguments_as_flags(model_file, pixels, tmp_path, capfd):
    blurred = tmp_path / "blur.safetensors"
    config = ModelConfig(scale=2, num_stages=1, physics="blur", prior=ERD)
    save_model(blurred, ISRResCNet(config, rngs=nnx.Rngs(0)))
    write_image(tmp_path / "a.png", pixels)
    data, kernel = io.BytesIO(), tmp_path / "k.npy"
    np.save(data, np.full((5, 5), 0.04, np.float32))
    damaged = bytearray(data.getvalue())
    damaged[20] ^= 0xFF
    damaged[30] ^= 0x80
    kernel.write_bytes(damaged)
    np.save(tmp_path / "nan.npy", np.full((3, 3), np.nan))
    np.save(tmp_path / "wide.npy", np.full((3, 40), 1 / 120))
    for argv, message in [
        (["--model", blurred, "--blur", kernel], f"{kernel} is damaged or not an .npy file"),
        (["--model", blurred, "--blur", tmp_path / "nan.npy"], "nan.npy: the blur kernel holds nan at (0, 0)"),
        (["--model", blurred, "--blur", tmp_path / "wide.npy"], "the blur kernel is 3x40, larger than the picture"),
        (["--model", blurred, "--blur", "1,2,3,4"], "--blur is (1.0, 2.0, 3.0, 4.0)"),
        (["--model", model_file, "--num-stages", 2], "--num-stages is 2"),
    ]:
        assert run(tmp_path / "a.png", "-o", tmp_path / "out.png", *argv) == 2
        said = capfd.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    write_image(tmp_path / "folder" / "large.png", pixels)
    write_image(tmp_path / "folder" / "small.png", pixels[:2, :2])
    assert bicubic(tmp_path / "folder", "-o", tmp_path / "out", "--max-pixels", 10) == 3
    assert "raise it (--max-pixels)" in capfd.readouterr().err  # in the list of what failed, too


def test_a_model_that_is_told_a_blur_is_told_what_the_picture_shows(tmp_path, capfd):
    model, model_file = random_model(ModelConfig(scale=2, **SEVERAL)), tmp_path / "any.safetensors"
    save_model(model_file, model)
    photo = imresize(np.random.default_rng(0).uniform(0, 255, (12, 14, 3)), size=(48, 56)).clip(0, 255).astype("u1")
    write_image(tmp_path / "a.png", photo)
    estimate = estimate_degradation(photo, scale=3)
    upscaler = Upscaler(model)
    for options, known in [
        ([], estimate.known()),
        (["--noise", 3], estimate.known() | {"noise_std": 3.0}),
        (["--blur", 1.2], {"blur": 1.2, "noise_std": estimate.noise_std}),
        (["--no-inspect"], {"noise_std": 0.0}),
        (["--strength", 0.25], estimate.known() | {"strength": 0.25}),
    ]:
        argv = ["-o", tmp_path / "b.png", "--overwrite", "--model", model_file, "--scale", 3, *options]
        assert run(tmp_path / "a.png", *argv) == 0
        assert (f"a.png: taken for: {estimate}" in capfd.readouterr().err) == ("--no-inspect" not in options)
        expected = upscaler.upscale(photo, scale=3, **known)
        np.testing.assert_allclose(read_image(tmp_path / "b.png").pixels.astype(int), expected, atol=1)
    assert run(tmp_path / "a.png", "-o", tmp_path / "c.png", "--model", model_file, "--quiet") == 0
    assert capfd.readouterr().err == ""
    assert run(tmp_path / "a.png", "-o", tmp_path / "c.png", "--model", model_file, "--jpeg", 50, "--overwrite") == 2
    assert "was not trained on JPEG files" in (said := capfd.readouterr().err)
    assert "leave out --jpeg" in said


def test_a_model_that_is_told_the_quality_of_a_file_is_told_the_files_own(tmp_path, capfd):
    prior = dataclasses.replace(SEVERAL["prior"], noise_plane=True, error_plane=True)
    model, model_file = random_model(ModelConfig(scale=2, **SEVERAL | {"prior": prior})), tmp_path / "any.safetensors"
    save_model(model_file, model)
    photo = imresize(np.random.default_rng(0).uniform(0, 255, (12, 14, 3)), size=(48, 56)).clip(0, 255).astype("u1")
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=30)
    pixels, estimate = read_image(tmp_path / "a.jpg").pixels, estimate_degradation(tmp_path / "a.jpg", scale=3)
    upscaler, results = Upscaler(model), []
    for options, known in [
        ([], estimate.known(jpeg=True)),
        (["--jpeg", 90], estimate.known(jpeg=True) | {"jpeg": 90}),
        (["--no-inspect"], {"noise_std": 0.0}),
    ]:
        argv = ["-o", tmp_path / "b.png", "--overwrite", "--model", model_file, "--scale", 3, *options]
        assert run(tmp_path / "a.jpg", *argv) == 0
        told = "JPEG 30 (4:2:0)" in capfd.readouterr().err  # which pixels alone do not show so surely
        assert told == ("--no-inspect" not in options)
        results.append(read_image(tmp_path / "b.png").pixels.astype(int))
        np.testing.assert_allclose(results[-1], upscaler.upscale(pixels, scale=3, **known), atol=1)
    assert estimate.known(jpeg=True)["jpeg"] == 30
    assert np.abs(results[0] - results[1]).max() > 1
    compilations = upscaler.compilations
    upscaler.upscale(pixels, scale=3, **estimate.known(jpeg=True) | {"jpeg": 77})
    assert upscaler.compilations == compilations  # any quality, and none at all, are one program
    upscaler.upscale(pixels, scale=3, **estimate.known())
    assert upscaler.compilations == compilations
    assert run(tmp_path / "a.jpg", "-o", tmp_path / "b.png", "--overwrite", "--model", model_file, "--jpeg", 0) == 2
    assert "--jpeg is 0" in capfd.readouterr().err


def test_blur_noise_and_scale_through_every_door(pixels, tmp_path, capfd, monkeypatch):
    compiled = []
    compile_program = programs.compile_program
    monkeypatch.setattr(programs, "compile_program", lambda *of: compiled.append(1) or compile_program(*of))
    model = random_model(ModelConfig(scale=2, **SEVERAL))
    any_model = tmp_path / "any.safetensors"
    save_model(any_model, model)
    grey = np.random.default_rng(1).integers(1, 200, (4, 5, 1)).astype(np.uint8)  # even and odd
    np.save(tmp_path / "k.npy", grey[..., 0])
    write_image(tmp_path / "k.png", grey)
    for name in "abcd":
        write_image(tmp_path / "in" / f"{name}.png", np.rot90(pixels, name == "d"))
    kernel = grey[..., 0] / grey.sum()
    for text, blur in (("1.6", 1.6), ("1.6,0.8,30", (1.6, 0.8, 30.0)), ("k.npy", kernel), ("k.png", kernel)):
        given = tmp_path / text if text[0] == "k" else text
        compiled.clear()
        options = ["--model", any_model, "--scale", 3, "--blur", given, "--noise", 2.5, "--overwrite"]
        assert run(tmp_path / "in", "-o", tmp_path / "out", *options) == 0
        assert len(compiled) == 2  # one a shape
        expected = Upscaler(model).upscale(pixels, scale=3, blur=blur, noise_std=2.5)
        np.testing.assert_allclose(read_image(tmp_path / "out" / "c.png").pixels.astype(int), expected, atol=1)
    capfd.readouterr()
    for options, message in [
        (["--noise", "-1"], "--noise-std is -1.0; it is a level on the 0..255 scale, 0 or more"),
        (["--noise", "nan"], "--noise-std is nan"),
        (["--noise", "loud"], "loud"),
        (["--scale", 4], "by 4 is asked for; .*any.safetensors is made for x2 and x3, and"),
        (["--scale", "nan"], "--scale nan: choose a factor above 0 and below 1000"),
        (["--blur", "1.6,0.8,nan"], "--blur is .*nan.*; give a standard deviation"),
        (["--model", "bicubic", "--scale", 2, "--blur", 1.6], "makes no use of --blur, --noise and --jpeg"),
        (["--model", "bicubic", "--scale", 2, "--noise", 1], "makes no use of --blur, --noise and --jpeg"),
        (["--model", "bicubic", "--scale", 2, "--jpeg", 50], "makes no use of --blur, --noise and --jpeg"),
        (["--model", "bicubic", "--scale", 2, "--strength", 0.5], "has no network: leave out --strength"),
        (["--strength", 1.5], "--strength 1.5: choose 0 to 1"),
    ]:
        argv = options if "--model" in options else [*options, "--model", any_model]
        assert run(tmp_path / "in" / "a.png", "-o", tmp_path / "out.png", *argv) == 2
        assert re.fullmatch(f"isr-jax: .*{message}.*\n", capfd.readouterr().err)


def test_one_bad_file_does_not_stop_the_rest(pixels, tmp_path, capfd):
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / "in" / name, pixels)
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "b.png").read_bytes()[:60])
    assert bicubic(tmp_path / "in", "--output", tmp_path / "out") == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    last = capfd.readouterr().err.splitlines()[-2:]
    assert last[0].startswith(f"isr-jax: {tmp_path / 'in' / 'b.png'} is damaged")
    assert last[1] == "isr-jax: 1 of 3 pictures failed; the others are done"
    for name in ("a.png", "c.png"):
        (tmp_path / "in" / name).write_bytes(b"nothing")
    assert bicubic(tmp_path / "in", "--output", tmp_path / "none") == 1
    assert capfd.readouterr().err.splitlines()[-1] == "isr-jax: all 3 pictures failed"


def test_pipes(pixels, tmp_path):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "BMP")
    command = [sys.executable, "-m", "isr_jax.upscale", "-", "--output", "-", "--model", "bicubic", "--scale", "3"]
    done = subprocess.run(command, input=stream.getvalue(), capture_output=True, timeout=60, check=True)
    np.testing.assert_array_equal(read_image(done.stdout).pixels, imresize(pixels, 3))
    done = subprocess.run(command, input=b"nonsense", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"isr-jax: the picture is not a picture")


def test_sixty_pictures_of_all_kinds_keep_their_kind(model_file, tmp_path):
    rng = np.random.default_rng(0)
    expected = {}

    def keep(suffix: str, write) -> None:
        path = tmp_path / "in" / f"{len(expected):02}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        write(path)
        expected[path.name] = read_image(path)

    for suffix in ("png", "tif", "webp", "jpg", "bmp"):
        for dtype in (np.uint8, np.uint16) if suffix in ("png", "tif") else (np.uint8,):
            for channels in (1, 3):
                for alpha in (False, True) if suffix in ("png", "tif", "webp") else (False,):
                    for height, width in ((1, 1), (6, 9)):
                        top = int(np.iinfo(dtype).max) + 1
                        picture = Picture(
                            pixels=rng.integers(0, top, (height, width, channels), dtype=dtype),
                            alpha=rng.integers(0, top // 2, (height, width), dtype=dtype) if alpha else None,
                            resolution=(200, 100),
                        )
                        keep(suffix, lambda path, picture=picture: write_image(path, picture))
    colours = Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        keep("jpg", lambda path, exif=exif: colours.save(path, exif=exif, dpi=(200, 100)))
    for suffix, mode in (("png", "P"), ("png", "1"), ("jpg", "CMYK"), ("tif", "CMYK")):
        keep(suffix, lambda path, mode=mode: colours.convert(mode).save(path, dpi=(200, 100)))
    assert len(expected) == 60

    assert run(tmp_path / "in", "--output", tmp_path / "out", "--model", model_file) == 0
    for name, before in expected.items():
        after = read_image(tmp_path / "out" / name)
        assert after.pixels.shape == (before.pixels.shape[0] * 2, before.pixels.shape[1] * 2, before.pixels.shape[2])
        assert after.pixels.dtype == before.pixels.dtype
        assert (after.alpha is None) == (before.alpha is None)
        assert after.format == before.format
        assert sorted(after.resolution) == pytest.approx([200, 400], rel=2e-3)
        assert after.resolution == pytest.approx([2 * value for value in before.resolution], rel=2e-3)


def test_two_hundred_damaged_files_give_one_line_each(pixels, tmp_path, capfd):
    rng = np.random.default_rng(0)
    whole = {}
    for suffix in ("png", "tif", "webp", "jpg", "bmp"):
        write_image(tmp_path / f"whole.{suffix}", pixels)
        whole[suffix] = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / "in").mkdir()
    for number in range(200):
        suffix = list(whole)[number % 5]
        data = bytearray(whole[suffix])
        for place in rng.integers(0, min(len(data), 60 if number % 2 else len(data)), 4):
            data[place] = rng.integers(0, 256)
        data = data[: rng.integers(0, len(data))] if number % 3 == 0 else data
        (tmp_path / "in" / f"{number:03}.{suffix}").write_bytes(data)
    assert bicubic(tmp_path / "in", "--output", tmp_path / "out", "--max-pixels", 1_000_000) == 3
    lines = capfd.readouterr().err.splitlines()
    assert "Traceback" not in "".join(lines)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    for path in (tmp_path / "in").iterdir():
        mentions = [line for line in lines if path.name in line and "->" not in line]
        assert (path.name in written) or mentions, path.name
    assert 20 < len(written) < 180


def test_a_half_written_output_never_replaces_a_whole_one(pixels, tmp_path, monkeypatch):
    write_image(tmp_path / "in.png", pixels)
    (tmp_path / "out.png").write_bytes(b"before")

    def fail(*_):
        raise OSError(28, "No space left on device", "out.png")

    monkeypatch.setattr(Path, "replace", fail)
    assert bicubic(tmp_path / "in.png", "--output", tmp_path / "out.png") == 1
    assert (tmp_path / "out.png").read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png", "out.png"]


def test_what_cannot_be_done_gives_one_line(model_file, pixels, tmp_path, capfd):
    write_image(tmp_path / "a.png", pixels)
    write_image(tmp_path / "b" / "a.png", pixels)
    write_image(tmp_path / "top" / "b" / "a.png", pixels)
    write_image(tmp_path / "clear.png", Picture(pixels=pixels, alpha=pixels[..., 0]))
    (tmp_path / "empty").mkdir()
    a, out = tmp_path / "a.png", tmp_path / "out.png"
    baseline = ["--model", "bicubic", "--scale", 2]
    for argv, code, message in [
        ([tmp_path / "none.png", "--output", out, *baseline], 1, "none.png: No such file"),
        ([tmp_path / "empty", "--output", out, *baseline], 2, "has no pictures"),
        ([tmp_path / "*.jpg", "--output", out, *baseline], 2, "matches no file"),
        ([a, "--output", tmp_path / "out.xyz", *baseline], 2, "cannot write .xyz"),
        ([a, "--output", a, *baseline], 2, "overwrite"),
        ([a, tmp_path / "b", "--output", tmp_path / "b" / "x", *baseline], 2, "would both become"),
        ([a, tmp_path / "b" / "a.png", "--output", a, *baseline], 2, "need a folder"),
        ([a, tmp_path / "b" / "a.png", "--output", out, *baseline], 2, "need a folder"),
        ([tmp_path / "b", "--output", tmp_path / "b", *baseline], 2, "overwrite"),
        ([tmp_path / "top", tmp_path / "b" / "a.png", "--output", tmp_path, *baseline], 2, "overwrite"),
        (["--output", out, *baseline], 2, "nothing to upscale"),
        (["--output", "-", *baseline], 2, "nothing to upscale"),
        ([a, tmp_path / "b" / "a.png", "--output", "-", *baseline], 2, "one picture"),
        ([a, "--output", out, "--model", "bicubic"], 2, "give --scale"),
        ([a, "--output", out, "--model", "nothing"], 2, "no model nothing"),
        ([a, "--output", out, "--model", model_file, "--scale", 4], 2, "made for x2"),
        ([a, "--output", out, "--model", model_file, "--scale", -1], 2, "above 0"),
        ([a, "--output", out, *baseline, "--format", "gif"], 2, "--format gif"),
        ([a, "--output", out, *baseline, "--quality", 0], 2, "--quality"),
        (["", "--output", out, *baseline], 2, "an input is empty"),
        ([a, "--output", out, *baseline, "--ensemble", "--num-stages", 3], 2, "--ensemble and --num-stages"),
        ([a, "--output", out, *baseline, "--max-pixels", 0], 2, "--max-pixels 0: choose"),
        ([a, "--output", out, "--model", "bicubic", "--size", "9999999x9999999"], 1, "choose a smaller one"),
        ([a, "--output", out, *baseline, "--max-pixels", 47], 1, "--max-pixels"),
        ([tmp_path / "clear.png", "--output", tmp_path / "out.jpg", *baseline], 1, "JPEG holds no transparency"),
        ([a, "--output", out, *baseline, "--what"], 2, "--what"),
        ([a, *baseline], 2, "--output"),
    ]:
        assert run(*argv) == code, argv
        said = capfd.readouterr()
        assert message in said.err
        assert said.err.startswith("isr-jax: ")
        assert said.err.count("\n") == 1
        assert not out.exists()


def test_a_model_that_knows_one_physics_says_so_when_it_is_told_a_blur(pixels, tmp_path, capfd):
    write_image(tmp_path / "a.png", imresize(pixels, 3))  # without noise
    argv = ["--model", "isr-lite-x2", "--blur", "1.2,0.6,30"]
    assert run(tmp_path / "a.png", "-o", tmp_path / "told.png", *argv) == 0
    assert "isr-lite-x2 was trained on bicubic alone; its data steps are told the blur" in capfd.readouterr().err
    assert run(tmp_path / "a.png", "-o", tmp_path / "not.png", "--model", "isr-lite-x2") == 0
    told, other = (read_image(tmp_path / f"{name}.png").pixels for name in ("told", "not"))
    assert told.std() > other.std()  # sharper
    assert run(tmp_path / "a.png", "-o", tmp_path / "b.png", "--model", "isr-lite-x2", "--noise", 3) == 2
    assert "makes no use of a noise level: leave out --noise" in capfd.readouterr().err


def test_bits_a_sample(pixels, tmp_path, capfd):
    tifffile = pytest.importorskip("tifffile")
    alpha = np.full(pixels.shape[:2], 51, np.uint8)
    write_image(tmp_path / "in.png", Picture(pixels=pixels, alpha=alpha, resolution=(300, 300)))
    exact = imresize(pixels.astype(np.float32), 2)
    for name, bits in (("8.png", 8), ("16.png", 16), ("16.tif", 16), ("8.webp", 8)):
        assert bicubic(tmp_path / "in.png", "-o", tmp_path / name, "--bits", bits) == 0
        picture = read_image(tmp_path / name)
        assert picture.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
        if bits == 16:
            np.testing.assert_allclose(picture.pixels / 257, exact.clip(0, 255), atol=0.01)
            np.testing.assert_array_equal(picture.alpha, 51 * 257)
    for level in (0, 9):
        assert bicubic(tmp_path / "in.png", "-o", tmp_path / "32.tif", "--bits", 32, "--compression", level) == 0
        written = tifffile.imread(tmp_path / "32.tif")
        assert written.dtype == np.float32
        np.testing.assert_allclose(written[..., :3], exact / 255, atol=1e-5)  # not clipped
        np.testing.assert_allclose(written[..., 3], 0.2, atol=1e-6)
        picture = read_image(tmp_path / "32.tif")
        np.testing.assert_allclose(picture.pixels / 257, exact.clip(0, 255), atol=0.01)
    capfd.readouterr()
    for name, bits, formats in (("a.png", 32, "TIFF"), ("a.webp", 16, "PNG or TIFF")):
        assert bicubic(tmp_path / "in.png", "-o", tmp_path / name, "--bits", bits) == 1
        assert f"has no samples of {bits} bits (--bits): write {formats}" in capfd.readouterr().err
        assert not (tmp_path / name).exists()


def test_how_much_a_file_is_compressed(tmp_path):
    smooth = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[:, None, None], (60, 60, 3))
    write_image(tmp_path / "in.png", smooth)
    for suffix in ("png", "tif"):
        sizes = []
        for level in (0, 9):
            path = tmp_path / f"{level}.{suffix}"
            assert bicubic(tmp_path / "in.png", "-o", path, "--compression", level) == 0
            np.testing.assert_array_equal(read_image(path).pixels, imresize(smooth, 2))
            sizes.append(path.stat().st_size)
        assert sizes[0] > 3 * 120 * 120 > 10 * sizes[1]
    for suffix in ("jpg", "avif"):
        sizes = []
        for kept in ("4:4:4", "4:2:0"):
            path = tmp_path / f"{kept.replace(':', '')}.{suffix}"
            noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            write_image(tmp_path / "noise.png", noise)
            assert bicubic(tmp_path / "noise.png", "-o", path, "--subsampling", kept) == 0
            sizes.append(path.stat().st_size)
        assert sizes[0] > 1.2 * sizes[1]
