import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from isr_jax.config import ConfigError, ParallelConfig, UserError
from isr_jax.training.parallel import start
from tests.small_run import small_config

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # unless it says otherwise: the scripts here compile as this process does
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "XLA_FLAGS": "",
    "JAX_PLATFORMS": "cpu",
}


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def launch(out, *, devices=1, mapping="shard_map", placement="stream", processes=1, calls=(1, 1, 1)):
    """Runs parallel_step.py in processes of its own; returns what the first one wrote."""
    port = free_port()
    script = str(ROOT / "tests" / "parallel_step.py")
    running = []
    for index in range(processes):
        arguments = [f"{out}.{index}.npz", devices, mapping, placement, processes, index, port, *calls]
        command = [sys.executable, script, *map(str, arguments)]
        running.append(subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True))
    try:
        for process in running:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    with np.load(f"{out}.0.npz") as file:
        return dict(file)


def assert_same(result, expected):
    assert result["loss"] == pytest.approx(float(expected["loss"]), rel=1e-5)
    assert result["cache"] == 1  # one compilation, whatever the step
    for name in expected:
        if name.startswith("mu."):
            np.testing.assert_allclose(result[name], expected[name], rtol=1e-3, atol=1e-7, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return functools.cache(lambda placement: launch(tmp_path_factory.mktemp("alone") / "result", placement=placement))


CASES = [
    {"devices": 4, "placement": "memory"},
    {"devices": 4, "mapping": "pmap", "placement": "memory"},
    {"devices": 2, "processes": 2, "placement": "memory"},
]
SLOW_CASES = [
    {"devices": 4},
    {"devices": 4, "mapping": "pmap"},
    {"devices": 1, "processes": 2},
    {"mapping": "pmap"},
    {"devices": 2, "processes": 2, "mapping": "pmap"},
    {"devices": 2, "processes": 2, "mapping": "pmap", "placement": "memory"},
]


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(c, marks=pytest.mark.slow) for c in SLOW_CASES)], ids=str)
def test_devices_mappings_and_processes_compute_the_same(alone, tmp_path, case):
    assert_same(launch(tmp_path / "result", **case), alone(case.get("placement", "stream")))


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["shard_map", "pmap"])
def test_steps_of_one_call_are_those_of_several(alone, tmp_path, mapping):
    case = {"devices": 4, "mapping": mapping, "placement": "memory"}
    several = launch(tmp_path / "several", **case, calls=(1, 1, 1))
    one = launch(tmp_path / "one", **case, calls=(1, 2))
    assert_same(one, alone("memory"))
    assert one.keys() == several.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], several[name], err_msg=name)


@pytest.mark.slow
def test_processes_save_and_stop_at_the_same_step(tmp_path):
    config = small_config(tmp_path, steps=10**7, steps_per_call=5)  # writes the photographs, too
    port = free_port()
    running = []
    for index in range(2):
        command = [sys.executable, str(ROOT / "tests" / "parallel_fit.py"), str(tmp_path), str(index), str(port)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, env=ENVIRONMENT, **pipes))
    try:
        checkpoints = tmp_path / "run" / "checkpoints"
        while all(process.poll() is None for process in running) and len(list(checkpoints.glob("[0-9]*"))) < 2:
            time.sleep(0.1)
        running[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=120) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert [process.returncode for process in running] == [0, 0], said
    ended = [json.loads(out.splitlines()[-1]) for out, _ in said]
    assert [end["reason"] for end in ended] == ["another process was to stop", "SIGTERM"]
    assert [end["state"] for end in ended] == ["stopped", "stopped"]
    assert ended[0]["step"] == ended[1]["step"] == max(int(path.name) for path in checkpoints.glob("[0-9]*"))
    assert config.steps > ended[0]["step"] > 0


def test_more_devices_than_there_are():
    with pytest.raises(ConfigError, match=r"parallel\.devices is 1000"):
        start(ParallelConfig(devices=1000))
    assert start(ParallelConfig(devices=1)).devices == (jax.local_devices()[0],)


def test_an_unreachable_coordinator_is_one_line_after_a_bounded_time():
    config = ParallelConfig(num_processes=2, process_index=1, coordinator=f"127.0.0.1:{free_port()}", timeout=1)
    with pytest.raises(UserError, match=r"process 0 did not answer within 1 s .*; start it"):
        start(config)
    with pytest.raises(ConfigError, match="HOST:PORT"):
        start(ParallelConfig(num_processes=2, process_index=1, coordinator="localhost"))


def test_a_port_in_use_is_one_line():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match="choose another port"):
            start(ParallelConfig(num_processes=2, coordinator=address, timeout=1))


def test_processes_that_never_come_are_one_line():
    script = "from isr_jax.config import ParallelConfig; from isr_jax.training.parallel import start\n"
    script += f"start(ParallelConfig(num_processes=2, coordinator='127.0.0.1:{free_port()}', timeout=1))"
    ended = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith("isr-jax: parallel.coordinator 127.0.0.1")
    assert "Traceback" not in ended.stderr
