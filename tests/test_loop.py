import dataclasses
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import isr_jax
from isr_jax.__main__ import exit_code
from isr_jax.config import CheckpointConfig, EvalConfig, OptimizerConfig, ScheduleConfig, UserError
from isr_jax.train import load_run
from isr_jax.train import main as train
from isr_jax.training.decay import branch
from isr_jax.training.run_folder import RunFolder
from tests.small_run import assert_same_state, fresh_state, last_state, small_config
from tests.test_datasets import write_photos

ROOT = Path(__file__).parents[1]
TIMES = ("seconds_per_step", "data_wait_share")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    write_photos(folder / "valid" / "HR", [(32, 32)], seed=9)
    return folder


def status(run):
    return json.loads((run / "status.json").read_text())


def records(run):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights_are_finite(path):
    return all(np.isfinite(value).all() for value in load_file(path).values())


def test_a_run_is_told_in_python(folder, capfd):
    config = small_config(folder, eval=EvalConfig(data=(str(folder / "valid"),), every=9, log_every=3))
    seen, before = [], signal.getsignal(signal.SIGTERM)
    run = isr_jax.fit(config, folder / "told", callback=lambda step, values: seen.append((step, values)), quiet=True)
    assert (run.state, run.step, run.of, run.reason) == ("complete", 9, 9, "")
    assert list(run.history) == seen
    assert [step for step, _ in seen] == [3, 6, 9, 9]
    assert seen[0][1]["loss"] > 0
    assert run.best == run.validation["valid/psnr_y"] == seen[-1][1]["valid/psnr_y"]
    assert run.seconds > 0
    assert isr_jax.load(run.workdir).config == config.model
    said = status(folder / "told")
    assert said.pop("seconds_per_step") > 0
    assert said.pop("evaluation_seconds") > 0
    assert abs(datetime.fromisoformat(said.pop("updated")).timestamp() - time.time()) < 60
    assert said == {"state": "complete", "step": 9, "of": 9, "reason": None, "resume": None}
    assert signal.getsignal(signal.SIGTERM) is before
    said = capfd.readouterr().err
    assert "step/s" not in said
    assert "saved at" not in said


def test_a_run_stopped_by_its_time_says_so_and_goes_on_in_another_thread(folder):
    config = small_config(folder, max_minutes=1e-6)
    run = isr_jax.fit(config, folder / "timed", quiet=True)
    assert (run.state, run.step, run.reason) == ("stopped", 1, "max_minutes=1e-06")
    said = status(folder / "timed")
    assert (said["state"], said["step"], said["of"], said["reason"]) == ("stopped", 1, 9, "max_minutes=1e-06")
    assert "same command" in said["resume"]
    runs = []
    again = dataclasses.replace(config, max_minutes=0.0)
    thread = threading.Thread(target=lambda: runs.append(isr_jax.fit(again, folder / "timed", quiet=True)))
    thread.start()
    thread.join()
    assert runs[0].state == "complete"


def test_a_failed_run_says_so(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    config = small_config(folder, eval=EvalConfig(data=(str(tmp_path / "empty"),)))
    with pytest.raises(UserError, match="empty has no pictures"):
        isr_jax.fit(config, tmp_path / "run", quiet=True)
    said = status(tmp_path / "run")
    assert said["state"] == "failed"
    assert "empty has no pictures" in said["reason"]


def test_what_is_refused_leaves_the_status_of_the_run(folder, tmp_path):
    config = small_config(folder, steps=3)
    isr_jax.fit(config, tmp_path / "run", quiet=True)
    before = status(tmp_path / "run")
    allowed = CheckpointConfig(allow_changes=True)
    for change, said in (
        ({"seed": 5}, "another seed"),
        ({"steps": 2, "checkpoint": allowed}, "has done 3 steps, more than the 2"),
    ):
        with pytest.raises(UserError, match=said):
            isr_jax.fit(dataclasses.replace(config, **change), tmp_path / "run", quiet=True)
        assert status(tmp_path / "run") == before
        assert load_run(tmp_path / "run") == config


@pytest.mark.slow
def test_a_session_with_changes_goes_on_as_it_is_even_if_it_has_saved_nothing(folder, tmp_path):
    config, run = small_config(folder, steps=3), tmp_path / "run"
    isr_jax.fit(config, run, quiet=True)
    allowed = CheckpointConfig(every=1000, allow_changes=True)
    changed = small_config(folder, steps=9, schedule=ScheduleConfig(learning_rate=2e-3), checkpoint=allowed)

    def fail(step, values):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        isr_jax.fit(changed, run, callback=fail, quiet=True)
    assert isr_jax.fit(load_run(run), run, quiet=True).state == "complete"
    assert load_run(run).schedule.learning_rate == 2e-3
    assert not load_run(run).checkpoint.allow_changes  # what is saved now is of this configuration
    with pytest.raises(UserError, match="another seed"):
        isr_jax.fit(dataclasses.replace(load_run(run), seed=5), run, quiet=True)


def test_the_status_tells_what_is_on_disk(folder, tmp_path):
    seen = []

    def look(step, values):
        finished = [int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdecimal()]
        seen.append((status(tmp_path / "run")["step"], max(finished, default=0)))

    isr_jax.fit(small_config(folder, steps=24), tmp_path / "run", callback=look, quiet=True)
    assert all(told <= finished for told, finished in seen)
    assert seen[-1][0] > 0


def test_a_run_folder_without_a_name_is_refused(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="workdir is empty"):
        isr_jax.fit(small_config(folder), "", quiet=True)
    for arguments in (["--workdir", ""], ["--workdir="], ["--workdir"], ["--workdir", "--steps", "3"]):
        assert exit_code(train, arguments) == 2
        assert "--workdir needs a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_steps_are_as_many_as_are_counted(folder, tmp_path):
    for change in ({"steps": 10**10}, {"steps_per_call": 3 * 10**9}):
        with pytest.raises(UserError, match="at most"):
            small_config(folder, **change)
    with pytest.raises(UserError, match=r"epochs=1e\+12 are .* at most"):
        isr_jax.fit(small_config(folder, steps=0, epochs=1e12), tmp_path / "run", quiet=True)


def test_two_runs_cannot_share_a_folder(folder, tmp_path):
    run = tmp_path / "run"
    with RunFolder(run) as held:
        held.report("running", 4, 9)
        with pytest.raises(UserError, match=rf"process {os.getpid()} on {socket.gethostname()} trains in it"):
            isr_jax.fit(small_config(folder), run, quiet=True)
        assert status(run)["state"] == "running"  # the refused one has no say
    with RunFolder(run):
        pass


def test_a_run_that_fails_of_a_full_disk_says_so(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*_):
        raise full

    def fail():
        with RunFolder(tmp_path / "run") as held:
            held.report("running", 4, 9)
            monkeypatch.setattr("isr_jax.training.run_folder.replace_file", refuse)
            raise full

    with pytest.raises(OSError, match="No space left"):
        fail()
    said = status(tmp_path / "run")
    assert (said["state"], said["step"], said["of"]) == ("failed", 4, 9)
    assert "No space left" in said["reason"]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    script = "import sys, time; from pathlib import Path; from isr_jax.training.run_folder import RunFolder\n"
    script += "with RunFolder(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"process {process.pid} on"), RunFolder(tmp_path / "run"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with RunFolder(tmp_path / "run"):
            assert json.loads((tmp_path / "run" / "lock").read_text())["pid"] == os.getpid()


# Decay of the weights by more than a float32 holds: loss and gradient are finite, the updated weights are not.
OVERFLOW = {
    "optimizer": OptimizerConfig(kind="adamw", weight_decay=1e10),
    "schedule": ScheduleConfig(kind="constant", learning_rate=1e30),
}


def test_weights_that_are_not_finite_are_never_saved(folder, tmp_path):
    config = small_config(folder, **OVERFLOW)
    with pytest.raises(UserError, match=r"step 1 is not finite: .*learning rate.* on_nonfinite"):
        isr_jax.fit(config, tmp_path / "run", quiet=True)
    assert weights_are_finite(tmp_path / "run" / "model.safetensors")
    assert_same_state(last_state(tmp_path / "run", config).state, fresh_state(config))
    assert status(tmp_path / "run")["state"] == "failed"
    with pytest.raises(UserError, match="step 1 is not finite"):  # a branch of step 0 is one
        branch(tmp_path / "run", tmp_path / "branch", steps=3, quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "placement"), [("skip", "stream"), ("lower_rate", "memory")])
def test_a_run_gives_up_after_some_bad_steps_in_a_row(folder, tmp_path, policy, placement):
    config = small_config(folder, on_nonfinite=policy, steps=40, **OVERFLOW)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, placement=placement))
    seen = []
    with pytest.raises(UserError, match="step 10 is not finite, as the 9 before it"):
        isr_jax.fit(config, tmp_path / "run", quiet=True, callback=lambda *record: seen.append(record))
    assert [step for step, values in seen if values["skipped"]] == list(range(1, 10))
    assert seen[-1][1]["rate_factor"] == (1.0 if policy == "skip" else 2.0**-9)
    assert len(list((tmp_path / "run").glob("nonfinite_*"))) == 6  # five, and the one that ended the run
    restored = last_state(tmp_path / "run", config)
    assert (int(restored.state.step), restored.failures) == (9, 9)
    said = status(tmp_path / "run")
    assert (said["state"], said["step"], said["of"]) == ("failed", 9, 40)


def stop_after(step):
    """A callback that interrupts the run after a step, as Ctrl-C would."""

    def callback(reached, values):
        if reached == step:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


@pytest.mark.parametrize(
    ("policy", "placement", "mapping", "steps"),
    [
        ("lower_rate", "memory", "shard_map", 4),
        pytest.param("skip", "stream", "pmap", 1, marks=pytest.mark.slow),
        pytest.param("skip", "memory", "pmap", 50, marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_after_bad_steps_and_resumes_to_the_same_bytes(
    folder, tmp_path, policy, placement, mapping, steps
):
    """The run that is not interrupted takes its steps one by one, the other several in a call."""
    # From step 6 on, the rate is far too high.
    config = small_config(
        folder,
        schedule=ScheduleConfig(kind="multistep", learning_rate=1e-3, factor=1e30, milestones=(0.5,)),
        on_nonfinite=policy,
        checkpoint=CheckpointConfig(every=4, keep=3),
        steps=10,
    )
    data = dataclasses.replace(config.data, placement=placement)
    config = dataclasses.replace(config, data=data, parallel=dataclasses.replace(config.parallel, mapping=mapping))
    whole = isr_jax.fit(config, tmp_path / "whole", quiet=True)
    several = dataclasses.replace(config, steps_per_call=steps)
    first = isr_jax.fit(several, tmp_path / "run", quiet=True, callback=stop_after(8))
    assert (whole.state, first.state, first.step) == ("complete", "stopped", 8)
    assert isr_jax.fit(several, tmp_path / "run", quiet=True).state == "complete"
    a, b = (last_state(tmp_path / name, config) for name in ("whole", "run"))
    assert_same_state(a.state, b.state)
    assert (a.failures, int(a.state.step)) == (b.failures, 10) == (5, 10)
    assert float(a.state.rate_factor) == (1.0 if policy == "skip" else 2.0**-5)
    assert int(a.state.optimizer[1].count) == 5
    one, other = (
        [{k: v for k, v in r.items() if k not in TIMES} for r in records(tmp_path / n)] for n in ("whole", "run")
    )
    assert one == other
    assert [r["step"] for r in one if "skipped" in r] == [6, 7, 8, 9, 10]
    assert weights_are_finite(tmp_path / "run" / "model.safetensors")


@pytest.mark.slow
def test_a_step_that_is_not_finite_within_a_call_stops_the_run_as_alone(folder, tmp_path):
    schedule = ScheduleConfig(kind="multistep", learning_rate=1e-3, factor=1e30, milestones=(0.6,))
    config = small_config(folder, schedule=schedule, checkpoint=CheckpointConfig(every=40), steps=10)
    states = []
    for steps in (1, 3):
        run = tmp_path / str(steps)
        with pytest.raises(UserError, match="step 7 is not finite"):
            isr_jax.fit(dataclasses.replace(config, steps_per_call=steps), run, quiet=True)
        assert [record["step"] for record in records(run)] == list(range(1, 7))
        states.append(last_state(run, config).state)
        assert int(states[-1].step) == 6
        assert (run / "nonfinite_7" / "batch.npz").exists()
    assert_same_state(*states)


def test_intervals_in_time_and_steps_in_a_call_change_no_bit(folder, tmp_path):
    config = small_config(folder, checkpoint=CheckpointConfig(every=100), steps=200)
    expected = isr_jax.fit(config, tmp_path / "steps", quiet=True)
    timed = dataclasses.replace(
        config,
        checkpoint=CheckpointConfig(every="0.05s"),
        eval=EvalConfig(data=(str(folder / "valid"),), every="0.1s", log_every="0.01s"),
        steps_per_call=30,
    )
    run = isr_jax.fit(timed, tmp_path / "time", quiet=True)
    assert_same_state(*(last_state(tmp_path / name, config).state for name in ("steps", "time")))
    losses = {step: values["loss"] for step, values in expected.history}
    seen = {step: values["loss"] for step, values in run.history if "loss" in values}
    assert 1 < len(seen) < len(losses) == 200
    assert seen.items() <= losses.items()
    scored = [step for step, values in run.history if "valid/psnr_y" in values]
    assert scored[-1] == 200
    assert len(scored) > 1


def test_the_time_limit_keeps_back_what_the_last_evaluation_needs(folder, tmp_path):
    config = small_config(folder, steps=1_000_000, checkpoint=CheckpointConfig(every="1h"), max_minutes=0.2)
    config = dataclasses.replace(config, eval=EvalConfig(data=(str(folder / "valid"),), every=20, log_every=10))
    run = isr_jax.fit(config, tmp_path / "run", quiet=True)
    assert (run.state, run.reason) == ("stopped", "max_minutes=0.2")
    assert run.seconds < 12
    assert run.history[-1][0] == run.step  # evaluated last
    assert set(run.validation) <= set(run.history[-1][1])
