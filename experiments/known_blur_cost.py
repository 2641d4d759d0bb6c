"""What one picture costs where the blur is known: isr-any beside USRNet, on this machine.

    python experiments/known_blur_cost.py --model isr-any --torch-python .venv311/bin/python

A result of 256x256 pixels (x3: 255) at x2, x3 and x4, told a blur of 25x25. `usrnet_twin.py` is USRNet, of random
weights, in PyTorch; --torch-python names a Python that has it. Both run in turn, on all cores; the medians are printed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from isr_jax.__main__ import exit_code
from isr_jax.config import UserError
from isr_jax.inference.upscaler import load
from isr_jax.startup import prepare_process

SIZE, RUNS = 256, 5


def usrnet(python: str, scale: int) -> dict:
    """Runs USRNet once, in a process of its own."""
    command = [python, str(Path(__file__).with_name("usrnet_twin.py")), str(scale), str(SIZE), "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{python} cannot run it ({done.stderr.strip().splitlines()[-1]}): name a Python with torch")
    return json.loads(done.stdout)


def main(argv: list[str] | None = None) -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="isr-any")
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args(argv)
    prepare_process()
    rng = np.random.default_rng(0)
    print("| x | network | parameters | multiply-adds per HR pixel | seconds per picture |\n" + "| --- " * 5 + "|")
    for scale in load(arguments.model).scales:
        model, kernel = load(arguments.model, scale=scale), rng.uniform(size=(25, 25))
        lr = rng.integers(0, 256, (SIZE // scale, SIZE // scale, 3), np.uint8)
        ours, theirs, other = [], [], {}
        for turn in range(arguments.turns + 1):
            for _ in range(RUNS):
                start = time.perf_counter()
                model.upscale(lr, blur=kernel / kernel.sum(), noise_std=0)
                ours += [time.perf_counter() - start] * (turn > 0)
            other = usrnet(arguments.torch_python, scale) if turn or not other else other
            theirs += other["seconds"] * (turn > 0)
        for name, parameters, macs, seconds in (
            (model.name, model.num_parameters, model.macs_per_pixel, ours),
            ("USRNet", other["parameters"], other["macs_per_pixel"], theirs),
        ):
            print(
                f"| x{scale} | {name} | {parameters:,} | {macs:,.0f} | {statistics.median(seconds):.3g} |", flush=True
            )


if __name__ == "__main__":
    sys.exit(exit_code(main))
