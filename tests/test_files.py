"""isr_jax.files: a whole file under the name, or what was there; full disks and kills, by real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isr_jax.files import new_folder, replace_file, write_file
from isr_jax.pictures.images import write_image

LIMIT = 40_000
"""Bytes after which the disk of `limited` is full."""


def upscale(source: Path, target: Path, *options: str, limited: bool = False) -> subprocess.Popen:
    program = "import resource; from isr_jax.__main__ import cli\n"
    program += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))\n" if limited else ""
    command = [sys.executable, "-c", program + "cli()", "upscale", source, "-o", target, *options]
    command += ["--model", "bicubic", "--scale", "2"]
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])


@pytest.fixture
def noise(tmp_path) -> Path:
    write_image(tmp_path / "in.png", np.random.default_rng(0).integers(0, 256, (120, 130, 3), np.uint8))
    return tmp_path / "in.png"


def test_a_folder_that_cannot_be_made_is_named():
    with pytest.raises(OSError, match="/proc/self/new") as caught, new_folder(Path("/proc/self/new")):
        pass
    assert caught.value.filename == "/proc/self/new"


def test_an_error_names_the_file_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "new" / "a.png"

    def fail(_):
        raise OSError(28, "No space left on device")

    for write in (replace_file, write_file):
        with pytest.raises(OSError, match="No space left") as caught:
            write(path, fail)
        assert caught.value.filename == str(path)
        assert list(path.parent.iterdir()) == []
    path.mkdir()
    (path / "inside").touch()
    with pytest.raises(OSError, match="directory") as caught:
        write_file(path, lambda stream: stream.write(b"x"))
    assert caught.value.filename == str(path)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.png", ()),
        ("out16.png", ("--bits", "16")),
        ("out.tif", ()),
        ("out32.tif", ("--bits", "32")),
        ("out.jpg", ("--quality", "100")),
        ("out.bmp", ()),
        ("out.webp", ("--quality", "100")),
        ("out.npy", ()),
    ],
)
def test_a_disk_that_fills_is_one_line_and_no_half_file(name, options, noise, tmp_path):
    (tmp_path / name).write_bytes(b"before")
    process = upscale(noise, tmp_path / name, *options, limited=True)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said == f"isr-jax: {tmp_path / name}: File too large\n"
    assert (tmp_path / name).read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.png", name])


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_in_the_middle_of_the_write_leaves_what_was_there(kind, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 8, (1200, 1200, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.bmp")
    (tmp_path / "out.png").write_bytes(b"before")
    process = upscale(tmp_path / "in.bmp", tmp_path / "out.png", "--compression", "9")

    def is_half_written() -> bool:
        return any(path.stat().st_size > 0 for path in tmp_path.glob(".out.png.*"))

    while not is_half_written():
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, kind)
    _, said = process.communicate(timeout=60)
    assert (tmp_path / "out.png").read_bytes() == b"before"
    if kind == signal.SIGINT:
        assert process.returncode == 130
        assert said == "isr-jax: interrupted\n"
        assert not list(tmp_path.glob(".out.png.*"))
    else:
        assert process.returncode == -signal.SIGKILL
