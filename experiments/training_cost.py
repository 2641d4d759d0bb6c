"""What a training has cost and brought: PSNR-Y against LR pixels seen and CPU-hours, from the runs' own records.

    python experiments/training_cost.py runs/x4_free runs/x2_free --data Set5 --output docs/images/training-cost.png

Left and middle: every evaluation of each run on its first validation folder, which is its own and no benchmark. Right:
what each run's model scores on --data now, beside published networks of about its size. A run that started from
another (checkpoint.init_from) counts that one's cost, too. Prints the same figures as a table in Markdown.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import isr_jax
from isr_jax.__main__ import exit_code
from isr_jax.config import UserError
from isr_jax.files import replace_file
from isr_jax.pictures.published import published_psnr
from isr_jax.startup import prepare_process
from isr_jax.training.curves import read_curves

PEERS = {
    "SRResNet": (16 * 24**2 * 1_000_000, 32.05),
    "CARN-M": (64 * 64**2 * 600_000, 31.92),
    "IMDN": (16 * 48**2 * 1_000_000, 32.21),
}
"""LR pixels seen (patches x their area x steps, as their papers describe the training) and PSNR-Y on Set5 x4, dB: Ledig
et al. 2017 (arXiv 1609.04802), Ahn et al. 2018 (1803.08664), Hui et al. 2019 (1909.11856)."""


@dataclass(frozen=True)
class Cost:
    """A run's evaluations, and what had been spent by then."""

    name: str
    scale: int
    pixels: np.ndarray
    """LR pixels seen."""
    hours: np.ndarray
    """CPU-hours, of all cores together."""
    psnr: np.ndarray
    validation: str


def read_cost(run: Path, cores: int) -> Cost:
    """Reads the record of a run and of those it started from.

    Raises:
      UserError: If the folder holds no run with an evaluation.
    """
    try:
        config: dict[str, Any] = json.loads((run / "config.json").read_text())
    except OSError as error:
        raise UserError(f"{run}: no run folder ({error.strerror}); give what --workdir named") from None
    curves = read_curves(run)
    sets = [Path(name).name for name in config["eval"]["data"] if f"{Path(name).name}/psnr_y" in curves]
    if not sets or "seconds_per_step" not in curves:
        raise UserError(f"{run}: has no evaluation yet")
    logged, seconds = (np.array(column) for column in zip(*curves["seconds_per_step"], strict=True))
    spent = np.cumsum(seconds * np.diff(logged, prepend=0)) / 3600 * cores
    steps, psnr = (np.array(column) for column in zip(*curves[f"{sets[0]}/psnr_y"], strict=True))
    pixels = steps.astype(float) * config["data"]["batch_size"] * config["data"]["patch_size"] ** 2
    hours = np.interp(steps, logged, spent)
    before = Path(config["checkpoint"]["init_from"] or ".")
    if (before / "metrics.jsonl").is_file():
        earlier = read_cost(before, cores)
        pixels, hours = pixels + earlier.pixels[-1], hours + earlier.hours[-1]
    return Cost(run.name, config["model"]["scale"], pixels, hours, psnr, sets[0])


def draw(costs: list[Cost], scores: dict[str, float], data: str, output: Path) -> None:
    """Draws all of it into one PNG, written beside and renamed."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    by_pixels, by_hours, against = figure.subplots(1, 3)
    for i, cost in enumerate(costs):
        label = f"{cost.name}: {cost.psnr[-1]:.2f} dB"
        for axis, spent in ((by_pixels, cost.pixels), (by_hours, cost.hours)):
            axis.plot(spent, cost.psnr, color=f"C{i}", marker=".", label=label)
        against.plot(cost.pixels[-1], scores[cost.name], "o", color=f"C{i}")
        against.annotate(
            cost.name, (cost.pixels[-1], scores[cost.name]), (6, -10), textcoords="offset points", fontsize=8
        )
    if 4 in {cost.scale for cost in costs}:
        for name, (pixels, psnr) in PEERS.items():
            against.plot(pixels, psnr, "x", color="black")
            against.annotate(name, (pixels, psnr), (-8, 7), textcoords="offset points", fontsize=8)
    for scale in sorted({cost.scale for cost in costs}):
        if (level := published_psnr(data, scale)) is not None:
            against.axhline(level, color="gray", linestyle="--", linewidth=1)
            against.annotate(f"the paper, x{scale}", (0.02, level), xycoords=("axes fraction", "data"), fontsize=8)
    names = {cost.validation for cost in costs}
    for axis, title, label in (
        (by_pixels, f"Validation ({', '.join(sorted(names))})", "LR pixels seen"),
        (by_hours, f"Validation ({', '.join(sorted(names))})", "CPU-hours"),
        (against, f"{data}, and published networks", "LR pixels seen"),
    ):
        axis.set_title(title)
        axis.set_xlabel(label)
        axis.set_ylabel("PSNR-Y (dB)")
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    by_pixels.legend(fontsize="small")
    against.margins(x=0.2, y=0.15)
    replace_file(output, lambda path: figure.savefig(path, dpi=110, format="png"))


def main(argv: list[str] | None = None) -> None:
    """Reads, scores, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--data", type=Path, required=True, help="pictures to score the models on, as Set5")
    parser.add_argument("--cores", type=int, default=2, help="CPU cores that the runs had")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    arguments = parser.parse_args(argv)
    prepare_process()
    costs = [read_cost(run, arguments.cores) for run in arguments.runs]
    scores: dict[str, float] = {}
    print(f"| run | LR pixels seen | CPU-hours | validation | {arguments.data.name} |\n| --- | --- | --- | --- | --- |")
    for run, cost in zip(arguments.runs, costs, strict=True):
        row = isr_jax.run_benchmark([str(run)], [str(arguments.data)]).rows[0]
        scores[cost.name] = row.mean("psnr_y") or 0.0
        print(
            f"| {cost.name} | {cost.pixels[-1] / 1e6:,.0f} M | {cost.hours[-1]:.2f} | {cost.psnr[-1]:.2f} | "
            f"{scores[cost.name]:.2f} |",
            flush=True,
        )
    draw(costs, scores, arguments.data.name, arguments.output)


if __name__ == "__main__":
    sys.exit(exit_code(main))
