import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from isr_jax import plot, replay
from isr_jax.__main__ import exit_code
from isr_jax.models.model_file import load_model, read_metadata
from isr_jax.train import main
from tests.test_datasets import write_photos

ROOT = Path(__file__).parents[1]

CONFIG = """
from isr_jax.config import *

CONFIG = TrainConfig(
    model=ModelConfig(
        scale=2, num_stages=2, physics="bicubic", learned_step=True,
        extrapolation=False, projection=False, clip=False,
        prior=ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3, border="zero", weight_norm=False,
                      first_shortcut=True, resolution="lr", carry_features=True),
    ),
    data=DataConfig(train=({train!r},), cache_dir={cache!r}, tile_size=48, patch_size=8, batch_size=4, {data}),
    optimizer=OptimizerConfig(kind={optimizer!r}, ema_decay=0.9),
    schedule=ScheduleConfig(learning_rate=1e-2),
    checkpoint=CheckpointConfig(every=7, keep=2),
    eval=EvalConfig(data=({validation!r},), every=20, log_every=1),
    steps=40,
)
"""
PLACEMENTS = {
    "memory": 'placement="memory", sampling="texture", candidates=2',
    "stream": "candidates=2",
    "degraded": 'placement="memory", degradation=DegradationConfig(gaussian=1.0, motion=1.0, kernel_size=9, '
    "motion_length=(2.0, 6.0), noise_std=(0.0, 3.0), jpeg_quality=(60.0, 95.0), jpeg_free=0.5)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    write_photos(folder / "photos", [(48, 48), (60, 50), (48, 64)])
    write_photos(folder / "valid" / "HR", [(32, 32)], seed=9)
    for name, data in PLACEMENTS.items():
        text = CONFIG.format(
            train=str(folder / "photos"),
            validation=str(folder / "valid"),
            cache=str(folder / "cache"),
            data=data,
            optimizer="adam" if name == "stream" else "muon",
        )
        (folder / f"{name}.py").write_text(text)
    return folder


def start(folder, workdir, *arguments, placement="memory", **environment):
    """Starts a real training process."""
    command = [sys.executable, "-m", "isr_jax.train", folder / f"{placement}.py", "--workdir", workdir, *arguments]
    environment = {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # unless it says otherwise: as this process compiles
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ISR_JAX_COMPILATION_CACHE": str(folder / "compiled"),
        **environment,
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(c) for c in command], env=environment, **pipes)


def finish(process, code=0):
    _, said = process.communicate(timeout=300)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def saved(workdir):
    """The steps of the checkpoints, and all that the last one holds."""
    from orbax.checkpoint import v1 as ocp

    with ocp.training.Checkpointer(workdir / "checkpoints") as checkpointer:
        steps = [c.step for c in checkpointer.checkpoints]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sharding info not provided")
            return steps, checkpointer.load(steps[-1])


def assert_same(a, b, least=20):
    leaves, other = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(leaves) == len(other) > least
    for x, y in zip(leaves, other, strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


TIMES = ("seconds_per_step", "data_wait_share", "seconds")


@pytest.fixture(scope="module")
def uninterrupted(folder):
    """The run folder of a run that nobody stopped."""
    finish(start(folder, folder / "whole"))
    return folder / "whole"


@pytest.fixture(scope="module")
def uninterrupted_stream(folder):
    finish(start(folder, folder / "whole_stream", placement="stream"))
    return folder / "whole_stream"


def test_a_run_leaves_model_files_records_and_checkpoints(uninterrupted):
    run = uninterrupted
    steps, _ = saved(run)
    assert steps[-1] == 40
    assert len(steps) <= 3
    assert {p.name for p in run.iterdir()} >= {"best.safetensors", "config.json", "model.safetensors", "tensorboard"}
    model = load_model(run)
    assert model.config.num_stages == 2
    assert read_metadata(run / "model.safetensors")["step"] == 40
    lines = records(run)
    assert [r["step"] for r in lines if "loss" in r] == list(range(1, 41))
    losses = [r["loss"] for r in lines if "loss" in r]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    scores = [r for r in lines if "valid/psnr_y" in r]
    assert [r["step"] for r in scores] == [20, 40]
    assert {"valid/ssim_y", "valid/psnr_y_stage_1", "valid/psnr_y_stage_2"} <= set(scores[0])


def killed_and_resumed(folder, workdir, placement, numbers, seed, *arguments):
    """Sends signals to a run at random moments, and lets it finish."""
    rng = random.Random(seed)
    for number in numbers:
        process = start(folder, workdir, *arguments, placement=placement)
        # Most fall into the steps and the saves: metrics.jsonl is written at every step. A few kills fall into the
        # start; a SIGTERM there, before there is anything to save, ends the process as it ends every program.
        begun, metrics, early = time.time(), workdir / "metrics.jsonl", number == signal.SIGKILL
        while process.poll() is None and time.time() - begun < 120:
            if (early and rng.random() < 0.01) or (metrics.exists() and metrics.stat().st_mtime > begun):
                break
            time.sleep(0.1)
        time.sleep(rng.uniform(0, 0.5))
        if process.poll() is None:
            process.send_signal(number)
        _, said = process.communicate(timeout=120)
        assert "Traceback" not in said
        assert process.returncode in (0, -signal.SIGKILL if number == signal.SIGKILL else 75)
    finish(start(folder, workdir, *arguments, placement=placement))


def check_same_run(workdir, whole):
    assert_same(saved(workdir)[1], saved(whole)[1])
    for name in ("model.safetensors", "best.safetensors"):
        assert_same(load_file(workdir / name), load_file(whole / name), least=10)
        assert read_metadata(workdir / name) == read_metadata(whole / name)
    strip = [{k: v for k, v in r.items() if k not in TIMES} for r in records(workdir)]
    assert strip == [{k: v for k, v in r.items() if k not in TIMES} for r in records(whole)]


@pytest.mark.slow
def test_a_stopped_run_of_several_steps_a_call_ends_in_the_same_bytes(folder, uninterrupted, tmp_path):
    several = ["--steps-per-call", "7"]
    killed_and_resumed(folder, tmp_path / "run", "memory", [signal.SIGKILL, signal.SIGTERM], 0, *several)
    check_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("placement", ["memory", "stream"])
@pytest.mark.parametrize("numbers", [[signal.SIGKILL] * 5, [signal.SIGTERM, signal.SIGINT]], ids=["kill", "term"])
def test_many_stops_end_in_the_same_bytes(
    folder, uninterrupted, uninterrupted_stream, tmp_path, placement, numbers, seed
):
    killed_and_resumed(folder, tmp_path / "run", placement, numbers, seed)
    check_same_run(tmp_path / "run", {"memory": uninterrupted, "stream": uninterrupted_stream}[placement])


@pytest.mark.slow
def test_a_run_on_random_physics_killed_in_the_middle_ends_in_the_same_bytes(folder, tmp_path):
    longer = ["--steps", "200", "--eval.every", "100"]
    finish(start(folder, tmp_path / "whole", *longer, placement="degraded"))
    process, metrics = start(folder, tmp_path / "run", *longer, placement="degraded"), tmp_path / "run/metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or metrics.read_text().count("loss") < 120):
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert 7 <= saved(tmp_path / "run")[0][-1] < 200
    finish(start(folder, tmp_path / "run", *longer, placement="degraded"))
    check_same_run(tmp_path / "run", tmp_path / "whole")


def one_line(capfd):
    said = capfd.readouterr().err
    line = said.strip().splitlines()[-1]
    assert line.startswith("isr-jax: "), said
    return line


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ([], 2, "--workdir"),
        (["--workdir", "{run}", "--model.prior.depth", "3"], 2, "--model.prior.depth"),
        (["--workdir", "{run}", "--steps", "many"], 2, "--steps"),
        (["--workdir", "{run}", "--data.train", "/nowhere"], 2, "/nowhere"),
        (["--workdir", "{run}", "--eval.data", "/nowhere"], 2, "/nowhere"),
        (["--workdir", "{run}", "--data.batch-size", "0"], 2, "batch_size"),
        (
            ["--workdir", "{run}", "--checkpoint.every", "60m"],
            2,
            "checkpoint.every is '60m'; it must be a whole number",
        ),
        (
            ["--workdir", "{run}", "--steps-per-call", "5", "--data.placement", "stream", "--data.sampling", "epochs"],
            2,
            "a stream is read step by step",
        ),
        (["--workdir", "/dev/null/run"], 1, "/dev/null/run"),
        (["--workdir", "{run}", "--data.train", "{empty}"], 1, "empty"),
    ],
)
def test_unusable_settings_end_in_one_line(folder, tmp_path, capfd, arguments, code, named):
    (tmp_path / "empty").mkdir()
    arguments = [a.format(run=tmp_path / "run", empty=tmp_path / "empty") for a in arguments]
    assert exit_code(main, [str(folder / "memory.py"), *arguments]) == code
    assert named in one_line(capfd)


@pytest.mark.parametrize("text", ["CONFIG = 3", "import nothing_like_this", None, "from isr_jax.config import *\nx("])
def test_unusable_configurations_end_in_one_line(tmp_path, capfd, text):
    path = tmp_path / "config.py"
    if text is not None:
        path.write_text(text)
    assert exit_code(main, [str(path), "--workdir", str(tmp_path / "run")]) == 2
    assert "config.py" in one_line(capfd)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--seed", "1"], "seed"), (["--schedule.learning-rate", "0.1"], "schedule.learning_rate"), ([], "other data")],
)
def test_another_run_is_not_resumed_unless_told(folder, uninterrupted, tmp_path, capfd, arguments, named):
    run = str(uninterrupted)
    if not arguments:
        arguments = ["--data.train", str(write_photos(tmp_path / "photos", [(48, 48)]))]
    command = [str(folder / "memory.py"), "--workdir", run, *arguments]
    assert exit_code(main, command) == 1
    assert named in one_line(capfd)
    assert exit_code(main, [*command, "--checkpoint.allow-changes"]) == 0


@pytest.mark.slow
def test_a_photograph_removed_during_training_does_not_matter(folder, tmp_path):
    photos = write_photos(tmp_path / "photos", [(48, 48), (48, 48)])
    process = start(folder, tmp_path / "run", "--data.train", photos, placement="stream")
    while process.poll() is None and not (tmp_path / "run" / "metrics.jsonl").exists():
        time.sleep(0.1)
    (photos / "0.png").unlink()
    finish(process)


def test_a_failing_step_is_explained_and_can_be_repeated(folder, tmp_path, capfd):
    run = tmp_path / "run"
    wild = ["--schedule.learning-rate", "1e15", "--schedule.kind", "constant"]
    assert exit_code(main, [str(folder / "memory.py"), "--workdir", str(run), *wild]) == 1
    line = one_line(capfd)
    assert "is not finite" in line
    assert "stage" in line
    assert 'on_nonfinite to "skip"' in line
    assert "prior" in line
    (bundle,) = run.glob("nonfinite_*")
    assert bundle.name in line
    assert saved(run)[0][-1] == int(bundle.name.split("_")[1]) - 1
    assert exit_code(replay.main, [str(bundle)]) == 0
    said = capfd.readouterr().out
    assert "reproduced" in said
    assert (bundle / "report.txt").read_text().strip() in said
    assert exit_code(replay.main, [str(run)]) == 1
    assert "not a bundle" in one_line(capfd)
    state, batch, config = (bundle / name for name in ("state.npz", "batch.npz", "config.json"))
    whole = {path: path.read_bytes() for path in (state, batch, config)}
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    with np.load(batch) as file:
        small = {"lr": file["lr"][:, 1:], "hr": file["hr"]}
    np.savez(tmp_path / "small.npz", **small)
    for path, damaged in (
        *((state, data) for data in (b"", whole[state][:1000], buffer.getvalue(), whole[batch])),
        *((batch, data) for data in (b"", whole[batch][:1000], whole[state], (tmp_path / "small.npz").read_bytes())),
        *((config, data) for data in (b"5", b"[1]", b"\xff")),
    ):
        path.write_bytes(damaged)
        assert exit_code(replay.main, [str(bundle)]) in (1, 2)
        assert one_line(capfd).startswith(f"isr-jax: {bundle}")
        path.write_bytes(whole[path])


def test_curves_are_drawn(uninterrupted, tmp_path, capfd):
    output = tmp_path / "curves.png"
    assert exit_code(plot.main, [str(uninterrupted), "--output", str(output)]) == 0
    with Image.open(output) as image:
        assert min(image.size) > 500
    assert exit_code(plot.main, [str(tmp_path)]) == 1
    assert "metrics.jsonl" in one_line(capfd)


def follow(workdir):
    """Starts a process that watches a run; Ctrl-C reaches it even where the tests are run in the background."""
    listen = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{listen}; runpy.run_module('isr_jax.train', run_name='__main__')"
    command = [sys.executable, "-c", program, "--follow", str(workdir)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)


def test_a_run_is_followed_from_another_process_until_it_is_stopped(folder, tmp_path):
    run = tmp_path / "run"
    process = start(folder, run, "--steps", "1000000")
    while process.poll() is None and not (run / "lock").exists():
        time.sleep(0.05)
    watching, leaving = follow(run), follow(run)
    while process.poll() is None and not (
        (record := run / "metrics.jsonl").exists() and "psnr_y" in record.read_text()
    ):
        time.sleep(0.05)
    assert leaving.poll() is None
    leaving.send_signal(signal.SIGINT)
    _, complaint = leaving.communicate(timeout=60)
    assert (leaving.returncode, complaint) == (130, "")
    process.send_signal(signal.SIGTERM)
    finish(process, code=75)
    shown, complaint = watching.communicate(timeout=60)
    assert (watching.returncode, complaint) == (75, "")
    assert re.search(r"^step \d+ of 1000000: loss ", shown, re.MULTILINE)
    assert re.search(r"^step 20: valid/psnr_y \d", shown, re.MULTILINE)
    last = r"stopped at step \d+ of 1000000 by SIGTERM; the same command goes on"
    assert re.fullmatch(last, shown.splitlines()[-1])


@pytest.mark.slow
def test_the_plan_tells_what_remat_and_truncation_save(folder, capfd):
    stages = ["--model.num-stages", "6", "--data.batch-size", "256"]
    assert exit_code(main, [str(folder / "memory.py"), "--plan", *stages]) == 0
    rows = [line.split("|")[2:5] for line in capfd.readouterr().out.splitlines()[2:]]
    full, remat, truncated = ([float(cell.replace(",", "")) for cell in row] for row in rows)
    assert remat[1] < 0.7 * full[1]
    assert truncated[1] < 0.8 * full[1]
    assert remat[2] >= full[2] >= truncated[2] > 0


def test_a_model_starts_another_scale(folder, uninterrupted, tmp_path, capfd):
    path, run = folder / "memory.py", uninterrupted
    command = [str(path), "--workdir", str(tmp_path / "x3"), "--steps", "1", "--model.scale", "3"]
    assert exit_code(main, [*command, "--checkpoint.init-from", str(run)]) == 0
    assert re.search(r"(\d+) of \1 parameters from", capfd.readouterr().err)
    body = "prior.blocks.0.conv1.kernel"
    moved = np.abs(read(tmp_path / "x3" / "model.safetensors", body) - read(run / "model.safetensors", body))
    assert moved.max() < 0.05


def read(path, name):
    return load_file(path)[name]


@pytest.mark.slow
def test_a_session_ends_within_its_time(folder, tmp_path):
    run, reached = tmp_path / "run", 0
    for steps_per_call in ("1", "20"):
        endless = ["--steps", "10000000", "--checkpoint.every", "1h", "--eval.every", "10s", "--eval.log-every", "1s"]
        begun = time.monotonic()
        said = finish(
            start(folder, run, *endless, "--max-minutes", "0.75", "--steps-per-call", steps_per_call), code=75
        )
        assert time.monotonic() - begun < 45
        assert "stopped by max_minutes=0.75" in said
        status = json.loads((run / "status.json").read_text())
        assert status["state"] == "stopped"
        assert saved(run)[0][-1] == read_metadata(run / "model.safetensors")["step"] == status["step"] > reached + 20
        assert [r["step"] for r in records(run) if "valid/psnr_y" in r][-1] == status["step"]
        reached = status["step"]


@pytest.mark.slow
def test_a_full_disk_ends_in_one_line_and_costs_no_checkpoint(folder, tmp_path):
    # A limit on the size of files stands for the full disk: both fail in the middle of a write.
    wide, run = ["--model.prior.features", "48"], tmp_path / "run"
    finish(start(folder, run, *wide, "--max-minutes", "0.0001"), code=75)
    first = saved(run)
    command = [sys.executable, "-m", "isr_jax.train", str(folder / "memory.py"), "--workdir", str(run), *wide]
    limited = f"ulimit -f 100; exec {' '.join(command)}"  # KiB
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ISR_JAX_COMPILATION_CACHE": "off"}
    ended = subprocess.run(["bash", "-c", limited], env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    line = ended.stderr.strip().splitlines()[-1]
    assert line.startswith("isr-jax: ")
    assert "the checkpoints saved before are whole" in line
    assert saved(run)[0] == first[0]
    assert_same(saved(run)[1], first[1])
    finish(start(folder, run, *wide))
    assert saved(run)[0][-1] == 40


def test_what_is_missing_is_named_by_its_field_before_anything_is_made(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"not yet looked at")
    configuration = str(ROOT / "configs" / "lite_x4.py")
    for argv, message in [
        (["--data.train", "nosuch"], f"data.train names nosuch, which is not there, seen from {tmp_path}"),
        (["--data.train", "photos", "--eval.data", "other"], "eval.data names other, which is not there"),
    ]:
        assert exit_code(main, [configuration, "--workdir", "run", *argv]) == 2
        assert message in capfd.readouterr().err
        assert not (tmp_path / "run").exists()
