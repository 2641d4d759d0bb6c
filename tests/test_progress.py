"""How far a command is: on a terminal, elsewhere, and for programs."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isr_jax import upscale
from isr_jax.__main__ import exit_code
from isr_jax.pictures.images import read_image, write_image
from isr_jax.progress import _duration

BICUBIC = ("--model", "bicubic", "--scale", "2")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / "in" / name, np.full((6, 8, 3), 90, np.uint8))
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    return tmp_path


def run(*argv) -> int:
    return exit_code(upscale.main, [*map(str, argv), *BICUBIC])


def test_elsewhere_a_line_a_picture_and_no_bars(folder, capfd):
    assert run(folder / "in", "-o", folder / "out") == 3
    said = capfd.readouterr()
    lines = said.err.splitlines()
    assert said.out == ""
    assert lines[0].startswith(f"1/3 {folder}/in/a.png -> {folder}/out/a.png, 8x6 -> 16x12, ")
    assert lines[1] == f"2/3 {folder}/in/b.png failed"
    assert "\r" not in said.err
    assert "[" not in lines[0]


def test_quiet_says_what_failed_alone(folder, capfd):
    assert run(folder / "in", "-o", folder / "out", "--quiet") == 3
    said = capfd.readouterr()
    assert said.out == ""
    assert [line.startswith("isr-jax: ") for line in said.err.splitlines()] == [True, True]
    assert run(folder / "in" / "a.png", folder / "a.png", "--quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_programs_read_a_line_of_json_a_picture(folder, capfd):
    assert run(folder / "in", "-o", folder / "out", "--json-lines") == 3
    said = capfd.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["input"] for line in lines] == [f"{folder}/in/{name}.png" for name in "abc"]
    assert [line["output"] for line in lines] == [f"{folder}/out/a.png", None, f"{folder}/out/c.png"]
    assert [bool(line["error"]) for line in lines] == [False, True, False]
    assert all(0 <= line["seconds"] < 60 for line in lines)
    assert run(folder / "in" / "b.png", "-o", folder / "b.png", "--json-lines") == 1
    said = capfd.readouterr()
    assert "not a picture" in json.loads(said.out)["error"]
    assert said.err.count("\n") == 1
    assert run(folder / "in" / "a.png", "-o", "-", "--json-lines") == 2
    assert "would both write to standard output" in capfd.readouterr().err


def test_on_a_terminal_a_bar_with_the_time_left(folder):
    command = [sys.executable, "-m", "isr_jax", "upscale", str(folder / "in"), "-o", str(folder / "out"), *BICUBIC]
    main, terminal = pty.openpty()
    process = subprocess.Popen(command, stderr=terminal, cwd=ROOT)
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(main, 10_000):
            shown += part
    except OSError:  # all is read
        pass
    os.close(main)
    assert process.wait() == 3
    text = shown.decode()
    assert f"\r\x1b[K[....................] 0/3 {folder}/in/a.png" in text
    assert f"[######..............] 1/3 0 s left, {folder}/in/b.png" in text
    assert "[####################] 3/3" in text


def test_on_a_terminal_the_windows_of_a_picture_and_an_interrupt_among_them(tmp_path):
    write_image(tmp_path / "a.png", np.full((330, 560, 3), 90, np.uint8))
    (tmp_path / "b.png").write_bytes(b"before")
    program = "import isr_jax.inference.runner as runner; runner.MAX_WINDOW_FEATURES = 1\n"
    program += "from isr_jax.__main__ import cli; cli()"
    command = [sys.executable, "-c", program, "upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]
    main, terminal = pty.openpty()
    process = subprocess.Popen([*command, "--model", "isr-lite-x2"], stderr=terminal, cwd=ROOT)
    os.close(terminal)
    shown, interrupted = b"", False
    try:
        while part := os.read(main, 10_000):
            shown += part
            if b"window 2/" in shown and not interrupted:
                process.send_signal(signal.SIGINT)
                interrupted = True
    except OSError:  # all is read
        pass
    os.close(main)
    assert process.wait() == 130
    text = shown.decode()
    assert re.search(r"\r\x1b\[K\[#+\.+\] 0/1 \d+ s left, \S+a.png, window 2/\d+", text)
    assert text.endswith("\r\x1b[Kisr-jax: interrupted\r\n")
    assert (tmp_path / "b.png").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_two_paths_are_input_and_output(folder, capfd):
    a, b = folder / "in" / "a.png", folder / "in" / "c.png"
    assert run(a, folder / "out.png") == 0
    assert read_image(folder / "out.png").pixels.shape == (12, 16, 3)
    (folder / "there").mkdir()
    assert run(a, folder / "there") == 0
    assert (folder / "there" / "a.png").is_file()
    before = b.read_bytes()
    capfd.readouterr()
    for argv, message in [
        ((a, b), f"{b} exists already: say --overwrite, or name where the results go with --output"),
        ((a,), "name where the results go: two paths, INPUT and OUTPUT, or --output"),
        ((a, b, folder / "x.png"), "name where the results go"),
    ]:
        assert run(*argv) == 2
        assert message in capfd.readouterr().err
    assert b.read_bytes() == before
    assert run(a, b, "--overwrite") == 0
    assert read_image(b).pixels.shape == (12, 16, 3)


def test_the_first_picture_is_begun_soon(folder):
    probe = (
        "import sys, time, isr_jax.progress as progress\n"
        "def begin(self, source):\n    print(time.process_time()); raise SystemExit\n"
        "progress.Progress.begin = begin\n"
        "from isr_jax.upscale import main\n"
        f"main([{str(folder / 'in' / 'a.png')!r}, {str(folder / 'out.png')!r}])"
    )
    imports = "import time, jax.numpy, flax.nnx, PIL.Image; jax.devices(); print(time.process_time())"

    def seconds_of_cpu(code: str) -> float:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
        return float(done.stdout)

    # 1.3 times as much on an idle machine; what else runs on the core makes some processes dearer, none cheaper.
    assert any(seconds_of_cpu(probe) < 2 * seconds_of_cpu(imports) for _ in range(4))


def test_durations():
    assert [_duration(s) for s in (0.4, 59.6, 3599.0, 3600.0, 7300.0)] == [
        "0 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "2 h 01 min",
    ]
