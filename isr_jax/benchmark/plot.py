"""A benchmark as a plot."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from isr_jax.benchmark.rows import Row
from isr_jax.files import replace_file


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    """Draws the first of the measures against multiply-adds, and where there are stages, PSNR-Y against them.

    Args:
      rows: What to draw; those without parameters, of bicubic enlargement, are lines.
      path: Where to: .png, .svg or .pdf; written beside and renamed.
    """
    curves = [row for row in rows if row.stages()]
    figure = Figure(figsize=(6 * (1 + bool(curves)), 4.5), layout="constrained")
    axes = figure.subplots(1, 1 + bool(curves), squeeze=False)[0]
    measure = rows[0].measures[0]
    for row in rows:
        # What is between two $ would be mathematics.
        label, mean = f"{row.label}, {row.dataset} x{row.scale}".replace("$", r"\$"), row.mean(measure.name)
        mean = math.nan if mean is None else mean
        if row.cost.macs_per_pixel:
            axes[0].plot(row.cost.macs_per_pixel, mean, "o", label=label)
        else:
            axes[0].axhline(mean, color="grey", linestyle=":", label=label)
        if row in curves:
            means = row.stages()
            axes[1].plot(range(1, len(means) + 1), means, "o-", label=label)
    if any(row.cost.macs_per_pixel for row in rows):
        axes[0].set_xscale("log")
    decibels = " (dB)" if "PSNR" in measure.title else ""
    axes[0].set(xlabel="multiply-adds per HR pixel", ylabel=f"{measure.title}{decibels}")
    if curves:
        axes[1].set(xlabel="stage", ylabel="PSNR-Y (dB)")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    replace_file(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:]))
