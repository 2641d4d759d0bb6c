"""Run by test_spatial.py in processes of its own, each with devices of its own: pictures over some of them.

    python spatial_run.py DEVICES PROCESSES INDEX PORT CASE [...]

Prints a line of JSON for each case and number of devices: how far the result is from that of one device, what one
device sent as the code counts, and as the compiled program says.
"""

import dataclasses
import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path

import jax

devices, processes, index, port = map(int, sys.argv[1:5])
jax.config.update("jax_num_cpu_devices", devices)
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, index)

import numpy as np  # noqa: E402 - the devices come first

from isr_jax.config import ERDConfig, ModelConfig  # noqa: E402
from isr_jax.inference.upscaler import Upscaler  # noqa: E402
from isr_jax.models.model_file import load_model  # noqa: E402
from isr_jax.solver.unrolled import ISRResCNet  # noqa: E402
from tests.random_model import SEVERAL, random_model  # noqa: E402
from tests.released_weights import isrrescnet  # noqa: E402
from tests.test_convert_torch import imported_model, write  # noqa: E402

rng = np.random.default_rng(0)


def picture(height: int, width: int) -> np.ndarray:
    """Smooth shapes and a little noise."""
    y, x = np.mgrid[:height, :width] / 9.0
    waves = [np.sin(y + c) + np.cos(x * (1 + 0.3 * c)) + 0.3 * np.sin(x * y / 5) for c in range(3)]
    noisy = 120 + 40 * np.stack(waves, -1) + rng.normal(0, 2, (height, width, 3))
    return noisy.clip(0, 255).astype(np.float32)


def golden() -> ISRResCNet:
    """The paper's network, with its own weights."""
    return imported_model(Path(os.environ["ISR_JAX_SHARED"]) / "golden/isrrescnet/isrrescnet_x4.pth")


def released(**options) -> ISRResCNet:
    with tempfile.TemporaryDirectory() as folder:
        return imported_model(write(Path(folder) / "x.pth", isrrescnet()), **options)


plain = {"extrapolation": False, "projection": False, "physics": "bicubic", "num_stages": 2}
erd = ERDConfig(
    features=4, num_blocks=1, feedback_steps=0, kernel_size=3, resolution="lr", border="zero", carry_features=True
)
levels = dataclasses.replace(SEVERAL["prior"], noise_plane=True, error_plane=True)
told_jpeg = random_model(ModelConfig(scale=2, **SEVERAL | {"prior": levels}))
several_scales, kernel = random_model(ModelConfig(scale=2, **SEVERAL)), np.ones((5, 5)) / 25
# Name, model, height and width (which do not divide by the devices), what is known, devices.
CASES = {
    "lite-x2": (lambda: load_model("isr-lite-x2"), (163, 90), {}, (4,)),
    "lite-x4": (lambda: load_model("isr-lite-x4"), (60, 83), {}, (2,)),
    "two axes": (lambda: random_model(ModelConfig(scale=3, prior=erd, **plain)), (53, 50), {}, (1, 2, 4)),
    "paper": (released, (61, 53), {}, (2, 4)),
    "paper, even": (released, (60, 53), {}, (4,)),
    "golden": (golden, (25, 24), {}, (2,)),
    "paper, all stages": (released, (40, 37), {}, (3,)),
    "two axes, all stages": (lambda: random_model(ModelConfig(scale=3, prior=erd, **plain)), (53, 50), {}, (4,)),
    "any, all stages": (lambda: several_scales, (41, 37), {"blur": [kernel, np.ones((3, 3)) / 9]}, (4,)),
    "paper x3": (lambda: released(scale=3), (53, 61), {}, (4,)),
    "paper kernel": (lambda: released(mode="kernel"), (60, 53), {"blur": kernel}, (2,)),
    "any x2": (lambda: several_scales, (41, 37), {"blur": kernel, "noise_std": 3.0}, (4,)),
    "any, JPEG": (lambda: told_jpeg, (41, 37), {"blur": kernel, "noise_std": 3.0, "jpeg": 40}, (4,)),
    "any x2, two": (lambda: several_scales, (41, 37), {"blur": kernel}, (1, 2)),
    "any x3": (lambda: several_scales, (37, 41), {"blur": kernel, "scale": 3}, (4,)),
    "gradients": (
        lambda: random_model(
            ModelConfig(scale=2, data_step="conjugate_gradient", data_step_iterations=3, prior=erd, **plain)
        ),
        (33, 30),
        {},
        (4,),
    ),
}


def permuted_bytes(program: str, stages: int) -> int:
    """What collective-permutes of a compiled program send, those in the loop over the stages as often as it runs."""
    bodies, total, times = set(re.findall(r"body=%?([\w.-]+)", program)), 0, 1
    for line in program.splitlines():
        if begins := re.match(r"(?:ENTRY )?%?([\w.-]+) .*\{$", line):
            times = stages if begins[1] in bodies else 1
        elif sends := re.search(r"= f32\[([\d,]+)\]\S* collective-permute\(", line):
            total += times * 4 * math.prod(map(int, sends[1].split(",")))
    return total


def run(name: str, upscaler: Upscaler, lr: np.ndarray, known: dict) -> np.ndarray:
    if "all stages" in name:  # of two pictures
        return upscaler.upscale_batch(np.stack([lr, lr[::-1]]), all_stages=True, **known)
    return upscaler.upscale(lr, **known)


for name in sys.argv[5:]:
    make, size, known, counts = CASES[name]
    model, lr = make(), picture(*size)
    alone = run(name, Upscaler(model), lr, known)
    for count in counts if processes == 1 else ("all",):
        upscaler = Upscaler(model, devices=count)
        shared = run(name, upscaler, lr, known)
        assert upscaler.exchanged_bytes > 0 or count == 1
        program = next(iter(upscaler._runner.programs.kept.values())).compiled
        line = {"case": name, "devices": count, "difference": float(np.abs(shared - alone).max())}
        line["holders"] = len(program.output_shardings.device_set)
        line |= {"sent": upscaler.exchanged_bytes, "std": float(alone.std())}
        line["hlo"] = permuted_bytes(program.as_text(), model.config.num_stages)
        print(json.dumps(line), flush=True)
