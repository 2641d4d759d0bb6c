"""What a 10-gigapixel scan costs on a pod: operations, bytes over links, memory of a chip, as the code itself counts.

    python experiments/pod_plan.py --size 100000x100000 --devices 64 256 1024 --memory 16

Traces the program that runs on each device, for a mesh that need not exist, and counts in it; memory is what this
machine's compiler says of a window, a pixel, times the pixels of the device's window. Prints a table in Markdown.
"""

import argparse
import sys

from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError
from isr_jax.inference.spatial_plan import plan_picture
from isr_jax.models.model_file import load_model
from isr_jax.startup import prepare_process


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="isr-lite-x2")
    parser.add_argument("--size", default="100000x100000", help="width x height of the scan, LR pixels")
    parser.add_argument("--devices", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--memory", type=float, default=16, help="GiB that a device may use")
    arguments = parser.parse_args(argv)
    try:
        width, height = map(int, arguments.size.split("x"))
    except ValueError:
        raise ConfigError(f"--size {arguments.size}: give WIDTHxHEIGHT") from None
    prepare_process()
    model = load_model(arguments.model)
    print(f"{arguments.model}, {width}x{height} LR pixels, at most {arguments.memory:g} GiB a device:\n")
    print("| devices | grid | passes | window | TFLOP a device | work factor | MB sent a device | FLOP a byte | GiB |")
    print("| --- " * 9 + "|")
    for devices in arguments.devices:
        plan = plan_picture(model, (height, width), devices, memory=arguments.memory * 2**30)
        cells = [
            f"{plan.devices:,}",
            "x".join(map(str, plan.grid)),
            f"{plan.passes}",
            "x".join(map(str, plan.window)),
            f"{plan.work.flops / 1e12:,.1f}",
            f"{plan.work_factor:.3f}",
            f"{plan.work.sent_bytes / 1e6:,.1f}",
            f"{plan.work.flops / plan.work.sent_bytes:,.0f}" if plan.work.sent_bytes else "",
            f"{plan.memory_bytes / 2**30:.1f}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(exit_code(main))
