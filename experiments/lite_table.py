"""The shipped models beside bicubic and the paper's figures, their cost beside the paper's network, and a plot.

    python experiments/lite_table.py --data Set5 Set14 --plot docs/images/isr-lite.png

Seconds are of one picture, Set5's butterfly (256x256 HR pixels), both networks in turn, after a run to warm up.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from isr_jax.__main__ import exit_code
from isr_jax.benchmark.benchmark import run_benchmark
from isr_jax.benchmark.rows import Row
from isr_jax.config import ModelConfig
from isr_jax.files import replace_file
from isr_jax.inference.upscaler import Upscaler, load
from isr_jax.pictures.pairs import read_dataset
from isr_jax.pictures.published import PAPER
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.startup import prepare_process

SCALES = (2, 3, 4)
PIXELS_720P = 1280 * 720
PUBLISHED = {
    "FSRCNN": (4.6e9, 30.71, 27.59),
    "LapSRN": (149.4e9, 31.54, 28.19),
    "CARN-M": (32.5e9, 31.92, 28.42),
    "IMDN": (40.9e9, 32.21, 28.58),
    "RLFN": (29.8e9, 32.24, 28.62),
}
"""x4: multiply-adds for 1280x720 HR pixels, PSNR-Y on Set5 and Set14. FSRCNN (arXiv 1608.00367) and LapSRN (1704.03915)
as tabulated with CARN-M (1803.08664), IMDN (1909.11856), RLFN (2205.07514); trained on up to 3,450 photographs."""


def quality(folders: list[Path]) -> tuple[Sequence[Row], Sequence[Row]]:
    """Prints the table of PSNR-Y / SSIM-Y (Y not rounded); returns the rows of the models, and of bicubic."""
    names = [f"isr-lite-x{scale}" for scale in SCALES]
    single = run_benchmark(names, folders)
    plus = run_benchmark(names, folders, ensemble=True)
    print("| set | scale | bicubic | isr-lite | isr-lite+ | ISRResCNet | ISRResCNet+ |\n" + "| --- " * 7 + "|")
    for rows in zip(single.bicubic, single.rows, plus.rows, strict=True):
        dataset, scale = rows[0].dataset, rows[0].scale
        scores = [(row.mean("psnr_y"), row.mean("ssim_y")) for row in rows]
        scores += PAPER.get((dataset, scale), ())
        print(f"| {dataset} | x{scale} | {' | '.join(f'{p:.2f} / {s:.4f}' for p, s in scores)} |")
    return single.rows, single.bicubic


def cost(folder: Path) -> None:
    """Prints the table of parameters, multiply-adds and seconds."""
    print("| network | parameters | multiply-adds per HR pixel | seconds per picture |\n" + "| --- " * 4 + "|")
    for scale in SCALES:
        dataset = read_dataset(folder, scale)
        paper = ISRResCNet(ModelConfig(scale=scale), rngs=nnx.Rngs(0))
        networks = [load(f"isr-lite-x{scale}"), Upscaler(paper, name=f"ISRResCNet x{scale}")]
        picture = next(p for p in dataset.pairs if p.name == "butterfly")
        for network, seconds in zip(networks, time_in_turn(networks, picture.lr), strict=True):
            macs = f"{network.macs_per_pixel:,.0f}"
            print(f"| {network.name} | {network.num_parameters:,} | {macs} | {seconds:.3g} |", flush=True)


def time_in_turn(networks: list[Upscaler], lr: np.ndarray) -> list[float]:
    """Returns the median of the seconds of each network."""
    seconds: list[list[float]] = [[] for _ in networks]
    for turn in range(4):
        for network, times in zip(networks, seconds, strict=True):
            start = time.perf_counter()
            network.upscale(lr)
            if turn:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def draw(rows: Sequence[Row], bicubic: Sequence[Row], path: Path) -> None:
    """Draws PSNR-Y against multiply-adds, x4, with what others published."""
    paper_macs = Upscaler(ISRResCNet(ModelConfig(), rngs=nnx.Rngs(0))).macs_per_pixel
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axis, dataset, column in zip(figure.subplots(1, 2), ("Set5", "Set14"), (1, 2), strict=True):
        ours, baseline = (
            next(row for row in some if (row.dataset, row.scale) == (dataset, 4)) for some in (rows, bicubic)
        )
        points: dict[str, tuple[float, float | None, str]] = {}
        points |= {name: (point[0] / PIXELS_720P, point[column], "grey") for name, point in PUBLISHED.items()}
        points["ISRResCNet"] = (paper_macs, PAPER[dataset, 4][0][0], "C0")
        points["isr-lite"] = (ours.cost.macs_per_pixel, ours.mean("psnr_y"), "C3")
        for name, (macs, psnr, color) in points.items():
            axis.plot(macs, psnr, "o", color=color)
            left = name in ("RLFN", "isr-lite", "ISRResCNet")
            place = {"xytext": (-6 if left else 6, -3), "ha": "right" if left else "left"}
            axis.annotate(name, (macs, psnr), textcoords="offset points", color=color, **place)
        axis.axhline(baseline.mean("psnr_y"), color="grey", linestyle=":", label="bicubic enlargement")
        axis.set(xscale="log", xlabel="multiply-adds per HR pixel", ylabel="PSNR-Y (dB)", title=f"{dataset} x4")
        axis.set_xlim(2e3, 3e7)
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right")
    replace_file(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:], dpi=100))


def main(argv: list[str] | None = None) -> None:
    """Prints both tables and draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", nargs="+", type=Path, required=True, help="test folders, with HR/ and LRx2, LRx3, LRx4"
    )
    parser.add_argument("--plot", type=Path, required=True)
    arguments = parser.parse_args(argv)
    prepare_process()
    draw(*quality(arguments.data), arguments.plot)
    print()
    cost(arguments.data[0])


if __name__ == "__main__":
    sys.exit(exit_code(main))
