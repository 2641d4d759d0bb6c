"""isr_jax.inference.spatial: one picture over several devices is the picture on one."""

import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from random_model import save_random_model

from isr_jax import upscale
from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError
from isr_jax.inference.layout import choose_devices, choose_grid
from isr_jax.inference.upscaler import load
from isr_jax.pictures.images import read_image, write_image

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}


OTHERS = ("paper x3", "paper kernel", "any x3", "any, JPEG", "any x2, two", "gradients", "lite-x4")
OTHERS += ("paper, all stages", "two axes, all stages", "any, all stages")


def launch(*cases, devices=4, processes=1, environment=ENVIRONMENT):
    """Runs spatial_run.py in processes of its own; returns what each said."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    running = []
    for index in range(processes):
        command = [sys.executable, "-m", "tests.spatial_run", *map(str, (devices, processes, index, port)), *cases]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, env=environment, cwd=ROOT, **pipes))
    try:
        said = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert [process.returncode for process in running] == [0] * processes, said
    return [[json.loads(line) for line in out.splitlines() if line.startswith("{")] for out, _ in said]


def check(lines):
    for line in lines:
        assert line["difference"] < 1e-3, line
        assert line["std"] > 1, line
        if line["devices"] not in (1, "all"):
            assert line["holders"] == line["devices"], line


@pytest.mark.slow
def test_a_picture_over_1_2_and_4_devices():
    (lines,) = launch("lite-x2", "two axes", "paper", "any x2")
    check(lines)
    assert [line["devices"] for line in lines] == [4, 1, 2, 4, 2, 4, 4]
    for line in lines:
        if line["case"].startswith(("lite", "two")):  # one exchange, and nothing that XLA would add
            assert line["sent"] == line["hlo"]
    assert lines[0]["sent"] == 2 * 40 * 90 * 3 * 4  # the halo above and below, float32


@pytest.mark.slow
def test_other_models_over_devices():
    (lines,) = launch("paper, even", *OTHERS)
    check(lines)
    # Sizes that divide need no other exchange. XLA leaves out that of H x - y, which a network on HR pixels does not
    # see.
    unseen = 3 * 2 * (5 * 53 * 3) * 4  # stages, neighbours, the halo's LR pixels, float32
    assert lines[0]["sent"] - lines[0]["hlo"] == unseen


@pytest.mark.slow
def test_the_papers_own_network_over_devices(shared):
    (lines,) = launch("golden", devices=2, environment={**ENVIRONMENT, "ISR_JAX_SHARED": str(shared)})
    check(lines)


@pytest.mark.slow
def test_a_picture_over_two_processes():
    both = launch("paper", devices=2, processes=2)
    for lines in both:  # the whole result on each
        check(lines)
        assert [line["holders"] for line in lines] == [4]


def test_the_tiles_hold_a_halo_each():
    for size, halo, devices in itertools.product([(1, 1), (90, 400), (1000, 1003), (7, 20_000)], (0, 3, 40), (1, 6, 7)):
        grid = choose_grid(size, halo, devices)
        assert grid[0] * grid[1] <= devices
        for side, count in zip(size, grid, strict=True):
            tile = -(-side // count)
            assert count == 1 or side - (count - 1) * tile >= max(1, halo)  # of the last tile, too
    assert choose_grid((1000, 1000), 40, 16) == (4, 4)
    assert choose_grid((100, 4000), 40, 4) == (1, 4)
    assert choose_grid((100, 100), 40, 4) == (2, 2)
    assert choose_grid((79, 79), 40, 4) == (1, 1)


def test_devices_that_are_not_there_are_one_line(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("ISR_JAX_COMPILATION_CACHE", "off")
    there = len(jax.devices())
    assert choose_devices("all") == tuple(jax.devices())
    for wrong in (0, -1, "some", True):
        with pytest.raises(ConfigError, match="a whole number of at least 1, or all"):
            choose_devices(wrong)
    model = save_random_model(tmp_path / "m.safetensors", 2)
    with pytest.raises(ConfigError, match=f"`devices` is 1000; there are {there} "):
        load(model, devices=1000)
    write_image(tmp_path / "in.png", np.zeros((8, 9, 3), np.uint8))
    command = [str(tmp_path / "in.png"), "--output", str(tmp_path / "out.png"), "--model"]
    for devices, message in (("1000", f"--devices is 1000; there are {there}"), ("some", "or all"), ("0", "or all")):
        assert exit_code(upscale.main, [*command, str(model), "--devices", devices]) == 2
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert message in said
    assert exit_code(upscale.main, [*command, "bicubic", "--scale", "2", "--devices", "all"]) == 2
    assert "bicubic enlargement runs on no device" in capfd.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_the_command_over_two_devices(tmp_path):
    model = save_random_model(tmp_path / "m.safetensors", 2)
    write_image(tmp_path / "in.png", np.random.default_rng(0).integers(0, 256, (40, 31, 3), np.uint8))
    environment = {**ENVIRONMENT, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    environment["ISR_JAX_COMPILATION_CACHE"] = "off"
    command = [sys.executable, "-m", "isr_jax.upscale", "in.png", "-o", "out.png", "--model", str(model)]
    command += ["--devices", "all"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "2 devices" in ended.stderr
    expected = load(model).upscale(tmp_path / "in.png")
    difference = read_image(tmp_path / "out.png").pixels.astype(int) - expected.astype(int)
    assert np.abs(difference).max() <= 1  # where rounding decides
    assert (difference != 0).mean() < 1e-3
