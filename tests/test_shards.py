"""isr_jax.inference.shards: real processes share a folder, each picture is one's, and what was killed goes on."""

import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from isr_jax import upscale
from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError
from isr_jax.inference.shards import Shard, read_shard
from isr_jax.pictures.images import write_image

ROOT = Path(__file__).parents[1]
NAMES = [f"{folder}picture {i}.png" for folder in ("", "deep/", "deep/er/") for i in range(200)]


def test_every_picture_has_one_owner_whatever_else_there_is():
    for count in (1, 3, 16):
        shards = [Shard(index, count) for index in range(count)]
        owners = [[shard.index for shard in shards if shard.owns(name)] for name in NAMES]
        assert all(len(owner) == 1 for owner in owners)
        sizes = np.bincount([owner for (owner,) in owners], minlength=count)
        assert abs(sizes - len(NAMES) / count).max() <= 4 * np.sqrt(len(NAMES) / count)
    owners = [next(k for k in range(7) if Shard(k, 7).owns(f"{i}.png")) for i in range(5)]
    assert owners == [4, 1, 1, 3, 2]  # on every machine, in every version


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"JAX_PROCESS_ID": "3", "JAX_NUM_PROCESSES": "16", "SLURM_JOB_ID": "1"}, (3, 16)),
        ({"SLURM_JOB_ID": "1", "SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, (2, 4)),
        ({"SLURM_JOB_ID": "1"}, (0, 1)),
        (
            {"SLURM_JOB_ID": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_ARRAY_TASK_ID": "5"}
            | {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_COUNT": "4"},
            (5, 8),
        ),
    ],
)
def test_the_environment_says_which(environment, expected):
    assert read_shard("auto", environment) == expected
    assert read_shard("1/2", environment) == (1, 2)


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("auto", {}, "neither SLURM nor JAX_PROCESS_ID"),
        ("auto", {"JAX_PROCESS_ID": "1"}, "JAX_NUM_PROCESSES is None"),
        ("auto", {"JAX_PROCESS_ID": "two", "JAX_NUM_PROCESSES": "3"}, "JAX_PROCESS_ID is 'two'"),
        ("auto", {"JAX_PROCESS_ID": "3", "JAX_NUM_PROCESSES": "3"}, "3 of 3"),
        ("16/16", {}, "from 0/16 to 15/16"),
        ("0/0", {}, "give INDEX/COUNT"),
        ("-1/3", {}, "give INDEX/COUNT"),
        ("third", {}, "give INDEX/COUNT"),
    ],
)
def test_what_is_no_share_is_one_line(text, environment, message):
    with pytest.raises(ConfigError, match=message):
        read_shard(text, environment)


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "isr_jax.upscale", "in", "-o", "out", "--model", "bicubic", "--scale", "2"]
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen([*command, *arguments], cwd=folder, env=everything, stderr=subprocess.PIPE, text=True)


def written(said: str) -> list[str]:
    return re.findall(r"-> (out/\S+),", said)


def test_processes_share_a_folder_and_go_on_after_a_kill(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    names = [f"{folder}{i}.png" for folder in ("", "deep/") for i in range(15)]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "in" / name, pixels)
    running = [start(tmp_path, "--shard", f"{i}/3") for i in range(2)]
    running.append(start(tmp_path, "--shard", "auto", JAX_PROCESS_ID="2", JAX_NUM_PROCESSES="3"))
    third = [name for name in names if Shard(2, 3).owns(name)]
    deadline = time.monotonic() + 60
    while not any((tmp_path / "out" / name).exists() for name in third) and time.monotonic() < deadline:
        time.sleep(0.01)
    running[2].kill()
    said = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, -9], said
    done = [name for name in third if (tmp_path / "out" / name).exists()]
    assert 0 < len(done) < len(third)

    again = start(tmp_path, "--shard", "2/3", "--skip-existing")
    said[2] = again.communicate(timeout=60)[1]
    assert again.returncode == 0, said
    shares = [*itertools.chain(*map(written, said)), *(f"out/{name}" for name in done)]
    assert sorted(shares) == sorted(f"out/{name}" for name in names)
    there = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")]
    assert sorted(there) == sorted(names)
    assert f"share 2 of 3: {len(third)} of the pictures" in said[2]


def test_what_others_have_written_is_in_nobodys_way(tmp_path, monkeypatch, capfd):
    for i in range(6):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(tmp_path / "in" / f"{i}.png", np.zeros((3, 4, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    command = ["in", "-o", "out", "--model", "bicubic", "--scale", "2", "--shard"]
    shares = [[f"{i}.png" for i in range(6) if Shard(k, 2).owns(f"{i}.png")] for k in range(2)]
    assert all(shares)
    for k in range(2):
        assert exit_code(upscale.main, [*command, f"{k}/2"]) == 0
    assert sorted(p.name for p in Path("out").iterdir()) == sorted(itertools.chain(*shares))
    capfd.readouterr()
    assert exit_code(upscale.main, [*command, "0/2"]) == 2  # its own are not replaced unasked
    assert "--skip-existing" in capfd.readouterr().err
    empty = next(k for k in range(1000) if not any(Shard(k, 1000).owns(f"{i}.png") for i in range(6)))
    assert exit_code(upscale.main, [*command, f"{empty}/1000"]) == 0
    assert "nothing to do" in capfd.readouterr().err
