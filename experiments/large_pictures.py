"""What pictures of any size cost: seconds, CPU-seconds, memory and compilations, each size in a process of its own.

    python experiments/large_pictures.py --model isr-lite-x2 --megapixels 0.0655 1 4 12 --json large_pictures.json

Pictures are of the aspect ratio 3:2 and smooth, their count of pixels is the input's. Memory is the most that the
process held (`ru_maxrss`), Python, JAX, the picture and the result included; compilations are without a cache.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

MEASURE = "--measure"


def measure(model: str, height: int, width: int) -> dict[str, float | int | str]:
    """Upscales one picture in this process and returns what it cost, the import of JAX apart."""
    from isr_jax.inference.upscaler import load
    from isr_jax.physics.resize import imresize

    small = np.random.default_rng(0).integers(0, 256, (math.ceil(height / 8), math.ceil(width / 8), 3), np.uint8)
    picture = imresize(small, size=(height, width))
    upscaler = load(model)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    upscaler.upscale(picture)
    return {
        "width": width,
        "height": height,
        "seconds": time.perf_counter() - wall,
        "running": upscaler.seconds,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "before_mib": held / 1024,
        "program_mib": upscaler.peak_bytes / 2**20,
        "compilations": upscaler.compilations,
        "windows": " ".join(f"{shape[2]}x{shape[1]}" for shape in upscaler.program_bytes),
    }


def main() -> None:
    """Measures each size in a child process; prints a table and writes what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="isr-lite-x2")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.0655, 1.0, 4.0, 12.0, 24.0])
    parser.add_argument("--json", type=Path, help="where the rows are written")
    parser.add_argument(MEASURE, type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="one size, in this process")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.model, *args.measure)))
        return
    rows = []
    print("| input | seconds | of it running | CPU-seconds | peak MiB | program MiB | compilations | windows |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for pixels in args.megapixels:
        width = round(math.sqrt(pixels * 1e6 * 1.5))
        size = [str(round(pixels * 1e6 / width)), str(width)]
        command = [sys.executable, __file__, "--model", args.model, MEASURE, *size]
        environment = os.environ | {"ISR_JAX_COMPILATION_CACHE": "off", "JAX_ENABLE_COMPILATION_CACHE": "false"}
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
        rows.append(row)
        cells = [f"{row['width']}x{row['height']}"]
        cells += [f"{row[name]:.1f}" for name in ("seconds", "running", "cpu_seconds")]
        cells += [f"{row[name]:.0f}" for name in ("peak_mib", "program_mib", "compilations")]
        print(f"| {' | '.join([*cells, row['windows']])} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"model": args.model, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
