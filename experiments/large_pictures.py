"""What pictures of any size cost: seconds, CPU-seconds, memory and compilations, each size in a process of its own.

    python experiments/large_pictures.py --model isr-lite-x2 --sizes 256x256 1920x1080 6000x4000 --json large.json

Each process does what `isr-jax upscale` does, from a PNG to a PNG. Memory is the most that it held, Python, JAX, the
pictures, the program and the compiler included; compilations are without a cache. The exit code is 1 where a bound is
not kept.

With --torch-python, two networks of other programs run beside it on the same pictures (`torch_peers.py`), each in a
process of its own, on the whole picture and without files: compare them with "of it running".
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import MAX_PIXELS, read_image, write_image

MEASURE = "--measure"
PEERS = ("SRVGGNetCompact", "EDSR")
"""As `torch_peers` has them."""

BOUNDS = {(1920, 1080): 1.0, (6000, 4000): 2.0}
"""GiB that a process may hold for a picture of a size, width and height, at x2."""


def measure(model: str, source: Path, memory: str | None) -> dict[str, float | int | str]:
    """Upscales one picture in this process and returns what it cost, the import of JAX apart."""
    from isr_jax.inference.upscaler import load
    from isr_jax.startup import prepare_process

    prepare_process(large_blocks=False)
    upscaler = load(model, memory=memory)
    wall, cpu = time.perf_counter(), time.process_time()
    picture = read_image(source)
    result, _ = upscaler.upscale_picture(picture)
    write_image(source.with_name("large.png"), result)
    height, width = picture.pixels.shape[:2]
    return {
        "width": width,
        "height": height,
        "scale": upscaler.scale,
        "seconds": time.perf_counter() - wall,
        "running": upscaler.seconds,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": peak_mib(),
        "program_mib": upscaler.peak_bytes / 2**20,
        "compilations": upscaler.compilations,
        "windows": " ".join(f"{shape[2]}x{shape[1]}" for shape in upscaler.program_bytes),
    }


def peak_mib() -> float:
    """Returns the most that this process held; getrusage would count what the one that started it held, too."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def main() -> int:
    """Measures each size in a child process; prints a table and writes what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="isr-lite-x2")
    parser.add_argument("--sizes", nargs="+", default=["256x256", "1225x816", "1920x1080", "4243x2828", "6000x4000"])
    parser.add_argument("--memory", help="as for isr-jax upscale")
    parser.add_argument("--torch-python", help="a Python with torch, for two networks of other programs")
    parser.add_argument("--json", type=Path, help="where the rows are written")
    parser.add_argument(MEASURE, type=Path, metavar="FILE", help="one picture, in this process")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.model, args.measure, args.memory)))
        return 0
    rows, kept = [], True
    print("| input | seconds | of it running | CPU-seconds | peak MiB | bound | program MiB | compilations | windows |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            width, height = map(int, size.split("x"))
            assert width * height <= MAX_PIXELS
            write_image(source := Path(folder) / "small.png", smooth(height, width))
            command = [sys.executable, __file__, "--model", args.model, MEASURE, str(source)]
            command += ["--memory", args.memory] * (args.memory is not None)
            environment = os.environ | {"ISR_JAX_COMPILATION_CACHE": "off", "JAX_ENABLE_COMPILATION_CACHE": "false"}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            row = json.loads(done.stdout)
            bound = BOUNDS.get((width, height), math.inf) * 1024 if row["scale"] == 2 else math.inf
            kept &= row["peak_mib"] < bound
            rows.append(row)
            cells = [size, *(f"{row[name]:.1f}" for name in ("seconds", "running", "cpu_seconds"))]
            cells += [f"{row['peak_mib']:.0f}", "" if bound == math.inf else f"{bound:.0f}"]
            cells += [f"{row['program_mib']:.0f}", str(row["compilations"]), row["windows"]]
            print(f"| {' | '.join(cells)} |", flush=True)
            for peer in PEERS if args.torch_python else ():
                np.save(array := Path(folder) / "small.npy", read_image(source).pixels)
                command = [args.torch_python, str(Path(__file__).with_name("torch_peers.py")), peer, str(row["scale"])]
                done = subprocess.run([*command, str(array)], stdout=subprocess.PIPE, text=True)
                if done.returncode:  # out of memory, mostly
                    print(f"| {size}, {peer} | failed |", flush=True)
                    continue
                other = json.loads(done.stdout)
                rows.append({"peer": peer, "width": width, "height": height, **other})
                cells = [f"{size}, {peer} ({other['kilo_macs']:.0f} kMAC a pixel)", ""]
                cells += [f"{other['running']:.1f}", f"{other['cpu_seconds']:.1f}", f"{other['peak_mib']:.0f}"]
                print(f"| {' | '.join(cells)} | | | | |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"model": args.model, "rows": rows}, indent=1))
    return 0 if kept else 1


def smooth(height: int, width: int) -> np.ndarray:
    """Returns a picture of large spots of any colour, noise of two grey levels upon them."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 250, (math.ceil(height / 8), math.ceil(width / 8), 3), np.uint8)
    return imresize(small, size=(height, width)).clip(0, 250) + rng.integers(0, 5, (height, width, 3), np.uint8)


if __name__ == "__main__":
    sys.exit(main())
