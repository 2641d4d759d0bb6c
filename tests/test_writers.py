import json
import re
import resource
import time

import pytest

from isr_jax.training import writers as module
from isr_jax.training.board import Board
from isr_jax.training.curves import read_curves
from isr_jax.training.records import Progress, describe_evaluation, parse_record
from isr_jax.training.writers import Writers
from tests.blocked import run_blocked


def open_writers(folder, *, first_step=0, total_steps=100, quiet=False):
    return Writers(folder, first_step=first_step, total_steps=total_steps, quiet=quiet)


def test_an_infinite_psnr_is_null_and_no_point_of_a_curve(tmp_path):
    writers = open_writers(tmp_path, quiet=True)
    writers.scalars(1, {"loss": 0.5, "psnr_y": float("inf")})
    writers.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": 0.5, "psnr_y": None}
    assert read_curves(tmp_path) == {"loss": [(1, 0.5)]}


def training(loss, seconds=0.5, waiting=0.25):
    return {"loss": loss, "learning_rate": 1e-3, "seconds_per_step": seconds, "data_wait_share": waiting}


def test_without_a_terminal_there_is_a_line_at_most_once_a_minute(tmp_path, capfd, monkeypatch):
    writers = open_writers(tmp_path)
    for step in range(1, 31):
        writers.scalars(step, training(0.1 * step))
        writers.advance(1)
        writers.show(loss="0.1")
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    writers._next_line = time.monotonic()
    writers.scalars(40, training(0.5))
    writers.say("step 40: valid/psnr_y 30")
    writers.close()
    assert capfd.readouterr().err.splitlines() == [
        "step 1 of 100: loss 0.10000, learning rate 0.001",  # its time is that of compiling
        # The mean of all records since, 2 to 30 and 40, and what is left of 100 steps.
        "step 40 of 100: loss 1.56333, learning rate 0.001, 2 steps/s, 30 s left, 25% waiting for data",
        "step 40: valid/psnr_y 30",
    ]


def test_a_quiet_record_says_nothing(tmp_path, capfd):
    writers = open_writers(tmp_path, quiet=True)
    writers.scalars(1, training(1.0))
    writers.say("a line")
    writers.close()
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_an_error_and_no_endless_wait(tmp_path):
    board, limits = Board(tmp_path, first_step=0), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # what fails in the middle of a write, too
    try:
        with pytest.raises(OSError, match="File too large"):
            board.scalars(1, {f"value_{k}": 1.0 for k in range(1000)})
        with pytest.raises(OSError, match="File too large"):
            board.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_time_left_counts_the_steps_between_two_records():
    progress = Progress(first_step=1000)
    for step, seconds in ((1050, 9.0), (1100, 0.1), (1300, 0.2)):
        progress.add(step, training(1.0, seconds, 0.5))
    # 50 steps of 0.1 s and 200 of 0.2 s, 8700 to go.
    assert "5.56 steps/s, 26 min 6 s left, 50% waiting for data" in progress.tell(10_000)
    progress.add(1310, {"loss": 2.0})
    assert progress.tell(None) == "step 1310: loss 2.00000"


@pytest.mark.parametrize(("seconds", "text"), [(59.6, "1 min 0 s"), (3700, "1 h 1 min"), (90_000, "1 d 1 h")])
def test_times_have_two_units(seconds, text):
    progress = Progress(first_step=0)
    for step in (1, 2):
        progress.add(step, training(1.0, seconds))
    assert f" {text} left" in progress.tell(3)


def test_what_records_say():
    assert parse_record('{"step": 3, "loss": 0.5, "psnr_y": null}') == (3, {"loss": 0.5})
    for line in ('{"step": 3, "lo', "", "[]", "3", '{"loss": 1}'):
        assert parse_record(line) is None
    assert describe_evaluation(3, {"a/psnr_y": 30.123, "a/psnr_y_bicubic": 28.0}) == "step 3: a/psnr_y 30.12"
    assert describe_evaluation(3, {"skipped": 1.0}) == "step 3: not finite; its data are skipped"
    assert describe_evaluation(3, training(0.5)) is None


def test_what_a_killed_session_wrote_after_its_last_checkpoint_is_dropped(tmp_path):
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')
    open_writers(tmp_path, first_step=2, quiet=True).close()
    assert read_curves(tmp_path) == {"loss": [(1, 1.0), (2, 1.0)]}


TERMINAL = """
import os, pty, sys, termios
from pathlib import Path
main, side = pty.openpty()
termios.tcsetwinsize(side, (24, 120))
os.dup2(side, 2)
from isr_jax.training.writers import Writers
writers = Writers(Path(sys.argv[1]), first_step=0, total_steps=4, quiet=False)
for step in (1, 2):
    writers.scalars(step, {"loss": 0.5})
    writers.show(loss="0.5")
    writers.advance(2)
writers.picture(4, "a", __import__("numpy").zeros((2, 2, 3), "uint8"))
writers.close()
os.write(2, b"the end")
shown = b""
while b"the end" not in shown:  # the kernel hands on what was written in its own time
    shown += os.read(main, 10000)
print(shown.decode())
"""


@pytest.mark.parametrize("absent", [(), ("tqdm",), ("tensorboardX", "tqdm")])
def test_a_terminal_has_a_bar_where_tqdm_is_installed(tmp_path, absent):
    done = run_blocked(TERMINAL, absent, tmp_path)
    assert done.returncode == 0, done.stdout
    assert ("100%" in done.stdout) == (not absent)
    assert bool(re.search("step 1 of 4: loss 0.50000", done.stdout)) == bool(absent)
    said = "isr-jax: tensorboardX is not installed; the record is in metrics.jsonl alone"
    assert (said in done.stdout) == ("tensorboardX" in absent)
    assert (tmp_path / "tensorboard").exists() == ("tensorboardX" not in absent)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
