"""isr-jax upscale --watch: a real process, and files that arrive while it looks."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from isr_jax import upscale
from isr_jax.__main__ import exit_code
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import read_image, write_image


@contextlib.contextmanager
def watching(folder, *options):
    command = [sys.executable, "-m", "isr_jax", "upscale", str(folder), "-o", str(folder / "out"), "--watch"]
    command += ["--model", "bicubic", "--scale", "2", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr.readline().startswith(f"isr-jax: watching {folder}; Ctrl-C ends it")
            yield process
        finally:
            process.kill()


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def test_what_arrives_is_enlarged_when_it_is_whole_and_once(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "in" / "out"
    (folder / "deep").mkdir(parents=True)
    write_image(folder / "there.png", picture())
    with watching(folder) as process:
        wait_for((out / "there.png").exists)
        data = (folder / "there.png").read_bytes()
        with (folder / "deep" / "slow.png").open("wb") as file:  # arrives by and by
            for byte in range(0, len(data), 20):
                file.write(data[byte : byte + 20])
                file.flush()
                time.sleep(0.2)
                assert not (out / "deep").exists()
        wait_for((out / "deep" / "slow.png").exists)
        (folder / "broken.png").write_bytes(data[:40] + b"x" * 40)
        assert "broken.png" in [process.stderr.readline() for _ in range(4)][-1]
        write_image(folder / "broken.png", picture(1))  # mended: it comes again
        wait_for((out / "broken.png").exists)
        write_image(folder / "there.png", picture(2))  # changed
        wait_for(lambda: _is_of(out / "there.png", picture(2)))
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(20) == 0
    assert said.splitlines()[-1] == "isr-jax: ended; 4 enlarged, and nothing half-written"
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png")) == [
        "broken.png",
        "deep/slow.png",
        "there.png",
    ]


def _is_of(path, pixels) -> bool:
    return bool(np.abs(read_image(path).pixels.astype(int) - imresize(pixels, 2).astype(int)).max() <= 1)


@pytest.fixture
def folder(tmp_path):
    """With one picture."""
    write_image(tmp_path / "in" / "a.png", picture())
    return tmp_path / "in"


def test_a_restart_does_what_is_missing_alone(folder):
    out = folder / "out"
    with watching(folder) as process:
        wait_for((out / "a.png").exists)
        process.kill()
    before = os.stat(out / "a.png").st_mtime_ns
    write_image(folder / "b.png", picture(1))
    with watching(folder) as process:
        wait_for((out / "b.png").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert os.stat(out / "a.png").st_mtime_ns == before


def test_the_result_of_one_picture_is_not_replaced_by_that_of_another(folder):
    out = folder / "out"
    with watching(folder) as process:
        wait_for((out / "a.png").exists)
        Image.fromarray(picture(1)).save(folder / "a.gif")
        assert f"a.gif is left alone: {out}/a.png is of another" in [process.stderr.readline() for _ in range(2)][-1]
        write_image(folder / "a.png", picture(2))  # the first still comes again
        wait_for(lambda: _is_of(out / "a.png", picture(2)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with watching(folder) as process:  # of which it is is not known any more
        said = [process.stderr.readline() for _ in range(2)]
        assert all("is left alone" in line for line in said)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert _is_of(out / "a.png", picture(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{in}", "-o", "{in}/a.png"], "--watch writes into a folder"),
        (["{in}/a.png", "-o", "{in}/out"], "--watch looks into folders"),
        (["", "-o", "{in}/out"], "an empty name is none"),
        (["{in}", "-o", "-"], "--watch writes into a folder"),
        (["{in}", "-o", "{in}"], "holds the input"),
        (["{in}/deep", "-o", "{in}"], "holds the input"),
        (["{in}", "-o", "{in}/out", "--overwrite"], "leave out --overwrite"),
        (["{in}", "-o", "{in}/out", "--shard", "0/2"], "leave out --overwrite, --skip-existing"),
    ],
)
def test_what_cannot_be_watched(tmp_path, capfd, options, message):
    write_image(tmp_path / "a.png", picture())
    (tmp_path / "deep").mkdir()
    argv = [option.replace("{in}", str(tmp_path)) for option in options]
    assert exit_code(upscale.main, [*argv, "--watch", "--model", "bicubic", "--scale", "2"]) == 2
    said = capfd.readouterr().err
    assert message in said
    assert said.count("\n") == 1
