"""``isr-jax plot RUN``: the curves of a run, from its metrics.jsonl, as a picture."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from isr_jax.__main__ import run
from isr_jax.command_line import parse_arguments
from isr_jax.config import ConfigError, UserError
from isr_jax.files import replace_file


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    output: Path | None = None
    """Where the PNG goes; RUN/curves.png if not given."""


def main(argv: list[str] | None = None) -> int | None:
    """Runs the command."""
    arguments = parse_arguments(Arguments, argv, prog="isr-jax plot", description="Draw the curves of a run.")
    output = arguments.output or arguments.run / "curves.png"
    if output.suffix != ".png":
        raise ConfigError(f"--output {output}: the curves are a PNG; name it .png")
    plot(read_metrics(arguments.run), output)
    print(output)


def read_metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns each recorded quantity's steps and values.

    Raises:
      UserError: If the folder has no record.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the --workdir of a training run")
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text().splitlines():
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


def plot(curves: dict[str, list[tuple[int, float]]], output: Path) -> None:
    """Draws related quantities into one panel each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels: dict[str, list[str]] = {}
    for name in curves:
        panel = "norms" if name.endswith("norm") else name.split("_stage_")[0]
        panels.setdefault(panel, []).append(name)
    columns = 3
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 3.2 * rows), squeeze=False, layout="constrained")
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

    def save(path: Path) -> Any:
        figure.savefig(path, dpi=110, format="png")

    replace_file(output, save)
    plt.close(figure)


if __name__ == "__main__":
    run(main)
