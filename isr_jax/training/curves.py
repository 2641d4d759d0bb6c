"""The curves of a run, from its metrics.jsonl, as a picture."""

import json
import math
from pathlib import Path

from matplotlib.figure import Figure

from isr_jax.config import UserError
from isr_jax.files import replace_file


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns each recorded quantity's steps and values.

    Raises:
      UserError: If the folder has no record.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the --workdir of a training run")
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            step = record.pop("step")
        except (ValueError, KeyError):  # the last line of a running process may be torn
            continue
        for name, value in record.items():
            if value is not None:  # infinite
                curves.setdefault(name, []).append((step, value))
    if not curves:
        raise UserError(f"{path}: holds no measurement yet")
    return curves


def draw_curves(curves: dict[str, list[tuple[int, float]]], output: Path) -> None:
    """Draws related quantities into one panel each, as a PNG, written beside and renamed."""
    panels: dict[str, list[str]] = {}
    for name in curves:
        panel = "norms" if name.endswith("norm") else name.split("_stage_")[0]
        panels.setdefault(panel, []).append(name)
    columns = 3
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (panel, names) in zip(axes.flat, panels.items(), strict=False):
        for name in names:
            steps, values = zip(*curves[name], strict=True)
            axis.plot(steps, values, label=name.removeprefix(panel).strip("_") or name, linewidth=1)
        axis.set_title(panel)
        axis.set_xlabel("step")
        if panel in ("norms", "loss", "learning_rate") and min(min(v for _, v in curves[n]) for n in names) > 0:
            axis.set_yscale("log")
        if len(names) > 1:
            axis.legend(fontsize="small")
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(panels) :]:
        axis.remove()

    replace_file(output, lambda path: figure.savefig(path, dpi=110, format="png"))
