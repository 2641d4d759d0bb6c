import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import isr_jax
from isr_jax import decay
from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError, EvalConfig, ScheduleConfig, UserError, config_to_dict
from isr_jax.models.model_file import read_metadata
from isr_jax.training.decay import branch
from tests.small_run import assert_same_state, contents, last_state, rates, small_config
from tests.test_datasets import write_photos

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decay")
    write_photos(folder / "valid" / "HR", [(32, 32)], seed=9)
    return folder


def config_of(folder, **changes):
    validation = EvalConfig(data=(str(folder / "valid"),), every=3, log_every=1)
    schedule = ScheduleConfig(kind="constant", learning_rate=1e-3, warmup_steps=2, final_fraction=0.1)
    return small_config(folder, **{"eval": validation, "schedule": schedule, "steps": 6, **changes})


@pytest.fixture(scope="module")
def run(folder):
    """A run with a constant rate, at step 6."""
    isr_jax.fit(config_of(folder), folder / "run", quiet=True)
    return folder / "run"


@pytest.fixture(scope="module")
def whole(folder):
    """A run that knows from its beginning to decay over the steps 7 to 10; its folder and configuration."""
    schedule = dataclasses.replace(config_of(folder).schedule, kind="wsd", decay_steps=4)
    config = config_of(folder, schedule=schedule, steps=10)
    isr_jax.fit(config, folder / "whole", quiet=True)
    return folder / "whole", config


def assert_same_run(new, whole, config):
    a, b = last_state(new, config), last_state(whole, config)
    assert_same_state(a.state, b.state)
    assert a.best == b.best
    for name in ("model.safetensors", "best.safetensors"):
        assert (new / name).read_bytes() == (whole / name).read_bytes()
    assert rates(new) == rates(whole)


def test_a_branch_is_the_run_that_knew_its_length(run, whole, tmp_path):
    before = contents(run)
    done = branch(run, tmp_path / "new", steps=4, quiet=True)
    assert (done.state, done.step, done.of) == ("complete", 10, 10)
    assert contents(run) == before
    assert_same_run(tmp_path / "new", *whole)
    by_step = rates(tmp_path / "new")
    assert by_step[6] == by_step[7] == pytest.approx(1e-3)
    assert by_step[10] == pytest.approx(1e-4)


def test_a_wsd_run_branches_off_before_its_own_decay(whole, tmp_path):
    run, config = whole
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(UserError, match=r"constant up to step 10 .*step 8 had another"):
        branch(tmp_path / "run", tmp_path / "new", steps=4, quiet=True)
    shutil.rmtree(tmp_path / "run/checkpoints/10")
    shutil.rmtree(tmp_path / "run/checkpoints/9")
    longer = config_to_dict(dataclasses.replace(config, steps=5000))
    (tmp_path / "run/config.json").write_text(json.dumps(longer))
    branch(tmp_path / "run", tmp_path / "new", steps=4, quiet=True)
    assert_same_run(tmp_path / "new", run, config)


def test_a_damaged_checkpoint_is_passed_over_and_left(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/checkpoints/6/_CHECKPOINT_METADATA").write_text("{")
    before = contents(tmp_path / "run")
    assert branch(tmp_path / "run", tmp_path / "new", steps=2, quiet=True).step == 5
    assert contents(tmp_path / "run") == before
    assert set(rates(tmp_path / "new")) == {1, 2, 3, 4, 5}
    assert read_metadata(tmp_path / "new/best.safetensors")["step"] <= 5


def refusal(capfd):
    line = capfd.readouterr().err
    assert line.startswith("isr-jax: ")
    assert line.count("\n") == 1
    return line


def test_what_cannot_branch_is_told_in_one_line(folder, run, tmp_path, capfd):
    def refused(workdir, *arguments, run=run, code=1, steps="3"):
        assert exit_code(decay.main, [str(run), "-o", str(workdir), "--steps", steps, *arguments]) == code
        return refusal(capfd)

    assert "config.json: cannot be read" in refused(tmp_path / "new", run=tmp_path / "none", code=2)
    assert "lies in" in refused(run / "new", code=2)
    (tmp_path / "mine.txt").write_text("mine")
    assert "mine.txt is a file; name a folder" in refused(tmp_path / "mine.txt", code=2)
    (tmp_path / "mine.txt").unlink()
    assert "decay_steps is 1" in refused(tmp_path / "new", steps="1", code=2)
    assert "--seed" in refused(tmp_path / "new", "--seed", "3", code=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    assert "holds something else" in refused(tmp_path / "full")
    assert not (tmp_path / "new").exists()
    isr_jax.fit(
        config_of(folder, schedule=ScheduleConfig(learning_rate=1e-3), steps=4), tmp_path / "cosine", quiet=True
    )
    assert "has not been constant" in refused(tmp_path / "new", run=tmp_path / "cosine")
    warming = dataclasses.replace(config_of(folder).schedule, warmup_steps=50)
    isr_jax.fit(config_of(folder, schedule=warming, steps=3), tmp_path / "warm", quiet=True)
    assert "warms up until step 50" in refused(tmp_path / "new", run=tmp_path / "warm")
    assert "leave out data.patch_size" in refused(tmp_path / "new", "--data.patch-size", "8", code=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cosine", "full", "warm"]  # nothing half-made is left
    branch(run, tmp_path / "new", steps=3, quiet=True)
    assert "decays over 3 steps, not 4" in refused(tmp_path / "new", steps="4")
    assert "is a branch of" in refused(tmp_path / "new", run=tmp_path / "cosine")


@pytest.mark.slow
def test_the_command_killed_and_repeated_ends_in_the_same_bytes_while_the_run_goes_on(folder, run, tmp_path):
    steps = 150
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ISR_JAX_COMPILATION_CACHE": str(folder / "compiled")}
    # As this process, whose runs it starts from and is compared with: programs compiled otherwise give other bytes.
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(jax.config.read("jax_disable_most_optimizations")))

    def start(new, *more):
        command = [sys.executable, "-m", "isr_jax.decay", run, "-o", new, "--steps", steps, "--checkpoint.every", "20"]
        return subprocess.Popen([*map(str, command), *more], env=environment, stderr=subprocess.PIPE, text=True)

    process, log = start(tmp_path / "new"), tmp_path / "new/metrics.jsonl"
    begun = time.time()
    while process.poll() is None and not (log.exists() and '"step": 40' in log.read_text()):
        assert time.time() - begun < 120
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert isr_jax.fit(config_of(folder, steps=9), run, quiet=True).step == 9  # the branch still begins at step 6
    process = start(tmp_path / "new", "--eval.every", "60")
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    assert "Traceback" not in said
    schedule = dataclasses.replace(config_of(folder).schedule, kind="wsd", decay_steps=steps)
    told = config_of(folder, schedule=schedule, steps=6 + steps, steps_per_call=50)
    isr_jax.fit(told, tmp_path / "whole", quiet=True)
    assert_same_state(last_state(tmp_path / "new", told).state, last_state(tmp_path / "whole", told).state)
    assert json.loads((tmp_path / "new/config.json").read_text())["schedule"] == config_to_dict(schedule)
    assert np.isfinite(list(rates(tmp_path / "new").values())).all()


def test_the_function_names_what_it_does_not_take(run, tmp_path):
    with pytest.raises(ConfigError, match="leave out seed"):
        branch(run, tmp_path / "new", steps=3, change=lambda c: dataclasses.replace(c, seed=5))
    (tmp_path / "empty").mkdir()
    shutil.copy(run / "config.json", tmp_path / "empty/config.json")
    with pytest.raises(UserError, match="no checkpoint yet"):
        branch(tmp_path / "empty", tmp_path / "other", steps=3)
