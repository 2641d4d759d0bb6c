"""isr_jax.inference.memory_limit and what keeps it: windows rounded as they come, of a size that fits."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_model import random_model, save_random_model

from isr_jax.config import ConfigError, ERDConfig, ModelConfig, UserError
from isr_jax.inference.memory_limit import read_memory, resident_bytes, write_memory
from isr_jax.inference.runner import OVERHEAD
from isr_jax.inference.upscaler import Upscaler
from isr_jax.physics.resize import imresize
from isr_jax.pictures.encoding import writing_bytes
from isr_jax.pictures.metrics import round_to
from isr_jax.pictures.picture import Picture

ROOT = Path(__file__).parents[1]
TINY = {"features": 4, "num_blocks": 1, "feedback_steps": 0, "kernel_size": 3, "border": "zero", "resolution": "lr"}
LOCAL = ModelConfig(scale=2, num_stages=1, physics="bicubic", projection=False, clip=False, prior=ERDConfig(**TINY))
WITH_NORM = ModelConfig(scale=2, num_stages=2, physics="none", prior=ERDConfig(**TINY))


def photo(height, width, channels=3, dtype=np.uint8):
    small = np.random.default_rng(0).uniform(0, 1, (-(-height // 3), -(-width // 3), channels))
    return (imresize(small, size=(height, width)).clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def test_amounts_of_memory():
    assert [read_memory(text) for text in ("2G", "1.5 GiB", "512m", "64KB", "7", 7)] == [
        2 * 2**30,
        3 * 2**29,
        2**29,
        2**16,
        7,
        7,
    ]
    for wrong in ("", "2X", "-1", "0", "G", True, 0.5, "nan", float("inf")):
        with pytest.raises(ConfigError, match=f"`memory` is {wrong}; give bytes, or an amount such as 512M or 2G"):
            read_memory(wrong)
    assert [write_memory(n) for n in (2**30, 2**30 + 1, 10 * 2**20, 1)] == ["1 GiB", "1.01 GiB", "10 MiB", "0.01 MiB"]
    for amount in (1, 12_345_678, 2**31 + 5):
        assert read_memory(write_memory(amount)) >= amount  # what is said is enough
    assert resident_bytes() > 2**25 or sys.platform != "linux"


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr("isr_jax.inference.runner.MAX_WINDOW_FEATURES", 16)
    monkeypatch.setattr("isr_jax.inference.tiles.LEAST_KEPT", 8)


@pytest.mark.parametrize("config", [LOCAL, WITH_NORM])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 3), (np.uint8, 1)])
def test_windows_rounded_are_the_whole_rounded(config, dtype, channels, small_windows):
    upscaler, picture = Upscaler(random_model(config)), photo(61, 90, channels, dtype)
    whole = upscaler.upscale_batch(picture[None])[0]
    assert len(upscaler.program_bytes) == 1 + (config is WITH_NORM)
    assert next(reversed(upscaler.program_bytes))[1:3] < picture.shape[:2]
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(upscaler.upscale(picture), round_to(whole, dtype))
    result, exact = upscaler.upscale_picture(Picture(pixels=picture), exact=True)
    np.testing.assert_array_equal(result.pixels, round_to(whole, dtype))
    np.testing.assert_array_equal(exact, whole / np.float32(257 if dtype == np.uint16 else 1))
    rounded, nothing = upscaler.upscale_picture(Picture(pixels=picture))
    assert nothing is None
    np.testing.assert_array_equal(rounded.pixels, result.pixels)


def test_turns_and_strength_in_windows_are_those_of_the_whole(monkeypatch):
    model, lr = random_model(LOCAL), photo(61, 90)[None].astype(np.float32)

    def results():
        ensemble = Upscaler(model, ensemble=True)
        half = Upscaler(model).upscale_batch(lr, strength=0.5)
        return ensemble.upscale_batch(lr), half, ensemble.upscale_batch(lr, strength=0.5), ensemble.program_bytes

    *whole, one = results()
    monkeypatch.setattr("isr_jax.inference.runner.MAX_WINDOW_FEATURES", 16)
    monkeypatch.setattr("isr_jax.inference.tiles.LEAST_KEPT", 8)
    *windows, several = results()
    assert max(shape[1] * shape[2] for shape in several) < max(shape[1] * shape[2] for shape in one)
    for result, expected in zip(windows, whole, strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-3)


def test_progress_tells_every_window(small_windows):
    for config, options, known in (
        (LOCAL, {}, {}),
        (LOCAL, {"ensemble": True}, {"strength": 0.5}),
        (WITH_NORM, {}, {}),
        (WITH_NORM, {"ensemble": True}, {"strength": 0.5}),
    ):
        told = []
        Upscaler(random_model(config), **options).upscale(
            photo(61, 90), progress=lambda *of, told=told: told.append(of), **known
        )
        total = told[0][1]
        assert told == [(done, total) for done in range(1, total + 1)]
        assert total > 1


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is told on Linux only")
def test_less_memory_is_smaller_windows_and_the_same_result():
    lr, model = photo(800, 900), random_model(LOCAL)
    free = Upscaler(model)
    expected = free.upscale(lr)
    bounded = Upscaler(model, memory=resident_bytes() + OVERHEAD + 5 * lr.nbytes + 20 * 2**20)
    assert np.abs(bounded.upscale(lr).astype(int) - expected).max() <= 1  # a half may fall to either side
    largest = [max(shape[1] * shape[2] for shape in upscaler.program_bytes) for upscaler in (bounded, free)]
    assert largest[0] < largest[1]
    assert bounded.peak_bytes <= 20 * 2**20


def test_what_cannot_be_kept_is_said_with_what_is_needed(tmp_path):
    for config in (LOCAL, WITH_NORM):
        with pytest.raises(UserError) as caught:
            Upscaler(random_model(config), memory="1M").upscale(photo(20, 30))
        words = str(caught.value).split()
        assert str(caught.value).startswith("a picture of 30x20 needs ")
        assert " of memory with this model, more than the 1 MiB of `memory`: allow as much, cut" in str(caught.value)
        enough = read_memory(f"{words[5]}{words[6]}") + 2**24  # the models before are held, too, by now
        Upscaler(random_model(config), memory=enough).upscale(photo(20, 30))
    with pytest.raises(UserError, match="needs"):
        Upscaler(random_model(LOCAL), memory="1G").upscale_picture(Picture(pixels=photo(4, 4)), reserve=2**30)
    command = [sys.executable, "-m", "isr_jax", "upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]
    from isr_jax.pictures.images import write_image

    write_image(tmp_path / "a.png", photo(4, 4))
    save_random_model(tmp_path / "model.safetensors", 2)
    for options, code, said in (
        (["--model", "bicubic", "--scale", "2", "--memory", "2G"], 2, "bicubic enlargement has no windows"),
        (["--model", str(tmp_path / "model.safetensors"), "--memory", "2X"], 2, "--memory is 2X; give bytes"),
        (["--model", str(tmp_path / "model.safetensors"), "--memory", "9M"], 1, "more than the 9 MiB of --memory"),
    ):
        done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == code
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


PEAK = """
import json, sys
from pathlib import Path
def peak():  # MiB; getrusage counts what the process that started this one held
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
"""

LARGE = """
import numpy as np
from isr_jax.inference.upscaler import Upscaler
from isr_jax.pictures.picture import Picture
sys.path.insert(0, "tests")
from test_memory_limit import LOCAL, photo
from random_model import random_model
import isr_jax.inference.runner as runner
runner.MAX_WINDOW_FEATURES = 2**20
upscaler = Upscaler(random_model(LOCAL))
pixels = np.full((2400, 2400, 3), 90, np.uint8)
alpha = np.full((2400, 2400), 200, np.uint8)
alpha[:1200] = 0
upscaler.upscale(pixels[:1200, :1200])
before = peak()
result, _ = upscaler.upscale_picture(Picture(pixels=pixels, alpha=alpha), **json.loads(sys.argv[1]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is handed back at once on Linux only")
@pytest.mark.slow
def test_nothing_but_the_result_lies_in_memory_as_a_whole():
    def peak(**options):
        command = [sys.executable, "-c", PEAK + LARGE, json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        return float(done.stdout)

    result = 4800 * 4800 * 4 / 2**20  # of 8 bits, with alpha: 88 MiB
    assert peak() < 2.2 * result  # float32 takes four times as much, and the rounding two again
    assert peak(exact=True) > 4 * result


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is told on Linux only")
def test_a_4k_result_takes_less_than_a_gibibyte(tmp_path):
    from isr_jax.pictures.images import write_image

    write_image(tmp_path / "a.png", photo(1080, 1920))
    program = PEAK + "from isr_jax.upscale import main\nassert main() == 0\nprint(peak() / 1024)"
    for options, limit in (([], 1), (["--memory", "450M"], 450 / 1024)):
        command = [sys.executable, "-c", program, str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]
        command += ["--model", "isr-lite-x2", *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        assert float(done.stdout) < limit


def test_what_writing_takes():
    px = 100 * 200
    assert writing_bytes("PNG", (100, 200, 3), 1) == 4 * px
    assert writing_bytes("PNG", (100, 200, 1), 1) == writing_bytes("PNG", (100, 200, 3), 2) == 0
    assert writing_bytes("PNG", (100, 200, 4), 1) == 4 * px
    assert writing_bytes("TIFF", (100, 200, 3), 2) == 6 * px
    assert writing_bytes("WEBP", (100, 200, 3), 1) == 16 * px
