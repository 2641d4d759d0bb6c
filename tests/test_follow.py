"""Watching a run from its folder alone. Real runs are watched in test_train.py."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from isr_jax.__main__ import exit_code
from isr_jax.config import UserError
from isr_jax.train import main
from isr_jax.training.follow import follow


def process_that_has_ended():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_run(folder, state="running", *, steps=30, pid=None, reason=None):
    folder.mkdir(exist_ok=True)
    owner = {"pid": os.getpid() if pid is None else pid, "host": socket.gethostname()}
    (folder / "lock").write_text(json.dumps(owner))
    write_status(folder, state, steps, reason)
    write_records(folder / "metrics.jsonl", steps)


def write_status(folder, state, step=30, reason=None):
    (folder / "status.json").write_text(json.dumps({"state": state, "step": step, "of": 100, "reason": reason}))


def write_records(path, steps):
    lines = []
    for step in range(1, steps + 1):
        lines.append({"step": step, "loss": 0.5, "seconds_per_step": 0.5, "data_wait_share": 0.0})
        if step % 10 == 0:
            lines.append({"step": step, "valid/psnr_y": 30 + step / 100})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_complete_run_is_told_and_done(tmp_path, capsys):
    write_run(tmp_path, "complete")
    assert follow(tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        "step 30: valid/psnr_y 30.3",
        "step 30 of 100: loss 0.50000, 2 steps/s, 35 s left, 0% waiting for data",
        "complete at step 30 of 100",
    ]


def test_a_stopped_run_ends_with_its_own_exit_code(tmp_path, capsys):
    write_run(tmp_path, "stopped", reason="max_minutes=9")
    assert exit_code(main, ["--follow", str(tmp_path)]) == 75
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "stopped at step 30 of 100 by max_minutes=9; the same command goes on"


def test_a_failed_and_a_killed_run_end_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("isr_jax.training.follow.START_SECONDS", 0.1)
    write_run(tmp_path, "failed", reason="step 31 is not finite")
    assert exit_code(main, [f"--follow={tmp_path}"]) == 1
    assert capsys.readouterr().err == f"isr-jax: {tmp_path}: the run failed at step 30 of 100: step 31 is not finite\n"
    write_run(tmp_path, "failed", reason="step 31 is not finite", pid=10**30)
    with pytest.raises(UserError, match="failed at step 30"):
        follow(tmp_path)
    write_run(tmp_path, "running", pid=process_that_has_ended())
    assert exit_code(main, ["--follow", str(tmp_path)]) == 1
    assert "was killed, saved at step 30 of 100; the same command goes on" in capsys.readouterr().err
    (tmp_path / "status.json").unlink()
    with pytest.raises(UserError, match="was killed; the same command"):
        follow(tmp_path)


def test_what_is_no_run_and_what_is_no_command_line_end_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("isr_jax.training.follow.START_SECONDS", 0.1)
    for arguments, code, named in (
        (["--follow", str(tmp_path)], 1, "no run folder (yet)"),
        (["--follow", str(tmp_path / "nowhere")], 1, "no run folder (yet)"),
        (["--follow"], 2, "needs a folder behind it"),
        (["--follow", str(tmp_path), "--steps", "3"], 2, "one run folder"),
    ):
        assert exit_code(main, arguments) == code
        said = capsys.readouterr().err
        assert named in said
        assert said.count("\n") == 1


def test_a_run_that_is_being_started_is_waited_for(tmp_path, capsys):
    run = tmp_path / "run"
    watch = Watch(run)
    time.sleep(0.2)
    write_run(run, steps=0, pid=process_that_has_ended())
    time.sleep(0.2)
    write_run(run, steps=10)
    wait_for("step 10 of 100", capsys)
    write_status(run, "complete", 100)
    assert watch.end() == 0


class Watch:
    """Follows a folder in a thread."""

    def __init__(self, folder):
        self.code = None
        self.thread = threading.Thread(target=self.run, args=(folder,))
        self.thread.start()

    def run(self, folder):
        self.code = follow(folder, seconds=0.02)

    def end(self):
        self.thread.join(timeout=20)
        assert not self.thread.is_alive()
        return self.code


def wait_for(text, capsys, so_far=""):
    for _ in range(500):
        so_far += capsys.readouterr().out
        if text in so_far:
            return so_far
        time.sleep(0.02)
    raise AssertionError(f"{text!r} is not in {so_far!r}")


def test_records_are_shown_as_they_come_and_a_torn_line_once_it_is_whole(tmp_path, capsys):
    write_run(tmp_path, steps=0)
    watch = Watch(tmp_path)
    wait_for("no record yet", capsys)
    with (tmp_path / "metrics.jsonl").open("a", buffering=1) as file:
        file.write('{"step": 7, "valid/psnr_y"')
        file.flush()
        time.sleep(0.1)
        file.write(': 31.5}\n{"step": 8, "skipped": 1.0}\n')
    assert wait_for("step 8", capsys).splitlines() == [
        "step 7: valid/psnr_y 31.5",
        "step 8: not finite; its data are skipped",
    ]
    write_status(tmp_path, "complete")
    assert watch.end() == 0


def test_a_resumed_run_is_followed_into_its_new_record(tmp_path, capsys):
    write_run(tmp_path)
    watch = Watch(tmp_path)
    wait_for("step 30 of 100", capsys)
    write_records(tmp_path / "new", 20)
    (tmp_path / "new").replace(tmp_path / "metrics.jsonl")
    said = wait_for("step 20 of 100", capsys)
    assert said.splitlines()[:2] == ["the run was resumed", "step 20: valid/psnr_y 30.2"]
    write_status(tmp_path, "complete")
    assert watch.end() == 0


def test_the_end_of_the_session_before_is_not_that_of_one_that_is_starting(tmp_path, capsys):
    write_run(tmp_path, "stopped")
    os.utime(tmp_path / "status.json", (1, 1))  # and the lock, of this living process, is newer
    watch = Watch(tmp_path)
    wait_for("step 30 of 100", capsys)
    time.sleep(0.1)
    assert watch.code is None
    write_status(tmp_path, "complete")
    assert watch.end() == 0


def test_it_imports_no_array_library():
    code = (
        "import sys, isr_jax.training.follow\n"
        "assert not {'jax', 'numpy', 'matplotlib', 'tensorflow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
