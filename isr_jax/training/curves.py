"""The curves of a run, from its metrics.jsonl, as a picture; of a run that is still going, too."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from isr_jax.config import UserError
from isr_jax.files import replace_file
from isr_jax.pictures.published import published_psnr
from isr_jax.training.records import RECORD, parse_record, read_json, read_lines

Curves = dict[str, list[tuple[int, float]]]
"""Steps and values of each quantity."""

_PANEL = (5.2, 3.4)
"""Width and height, inches."""
_BARE = {
    "alpha": "alpha of each stage",
    "w": "momentum w of each stage",
    "step_factor": "step size factor of each stage",
}
"""Titles of what the solver learns for its stages."""


def read_curves(folder: Path) -> Curves:
    """Returns each recorded quantity's steps and values.

    Raises:
      UserError: If the folder has no record.
    """
    path = folder / RECORD
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the --workdir of a training run")
    curves: Curves = {}
    for line in read_lines(path):
        if (record := parse_record(line)) is None:  # the last line of a running process may be torn
            continue
        for name, value in record[1].items():
            curves.setdefault(name, []).append((record[0], value))
    if not curves:
        raise UserError(f"{path}: holds no measurement yet")
    return curves


def draw_run(folder: Path, output: Path) -> None:
    """Draws a run, as `make_figure` does, into a PNG; it is written beside and renamed.

    Raises:
      UserError: If the folder has no record.
    """
    figure = make_figure(folder)
    replace_file(output, lambda path: figure.savefig(path, dpi=110, format="png"))


def make_figure(folder: Path) -> Figure:
    """Draws a run: validation beside bicubic and the paper, loss, learning rate, time, and what the stages learn.

    Raises:
      UserError: If the folder has no record.
    """
    curves = {_plain(name): points for name, points in read_curves(folder).items()}
    config, status = (read_json(folder / name) for name in ("config.json", "status.json"))
    model = config.get("model")
    panels = _panels(curves, model.get("scale") if isinstance(model, dict) else None)
    columns = 3 if len(panels) <= 9 else 4
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, draw in zip(axes, panels, strict=False):
        draw(axis)
        axis.set_xlabel("step")
        axis.set_xlim(left=0)
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
    for axis in axes[len(panels) :]:
        axis.remove()
    _time_axis(axes[0], curves)
    last = max(step for points in curves.values() for step, _ in points)
    of = f" of {status['of']:,}" if isinstance(status.get("of"), int) else ""
    state = f", {status['state']}" if status.get("state") else ""
    figure.suptitle(f"{_plain(folder.resolve().name)}: step {last:,}{of}{state}", fontweight="bold")
    return figure


def _plain(name: str) -> str:
    """Returns a name as matplotlib draws it: what is between two $ is mathematics there."""
    return name.replace("$", r"\$")


Draw = Callable[[Axes], Any]


def _panels(curves: Curves, scale: int | None) -> list[Draw]:
    """Returns what draws each panel for which there is a record, in their order."""
    sets = [name.removesuffix("/psnr_y") for name in curves if name.endswith("/psnr_y")]
    draws: list[Draw] = []
    if sets:
        draws.append(lambda axis: _draw_psnr(axis, curves, sets, scale))
    if "loss" in curves:
        draws.append(lambda axis: _draw_loss(axis, curves))
    if "learning_rate" in curves:
        draws.append(lambda axis: _draw_lines(axis, curves, ["learning_rate"], "Learning rate", ""))
    if "seconds_per_step" in curves:
        draws.append(lambda axis: _draw_time(axis, curves))
    if norms := [name for name in curves if name.endswith("_norm")]:
        draws.append(lambda axis: _draw_lines(axis, curves, norms, "Norms", "", log=True))
    if ssims := [name for name in curves if name.endswith("/ssim_y")]:
        draws.append(lambda axis: _draw_lines(axis, curves, ssims, "SSIM-Y", ""))
    stages: dict[str, list[str]] = {}
    for name in curves:
        if "_stage_" in name:
            stages.setdefault(name.partition("_stage_")[0], []).append(name)
    for group, names in stages.items():
        if all(len({value for _, value in curves[name]}) == 1 and len(curves[name]) > 1 for name in names):
            continue  # not learned
        draws.append(lambda axis, group=group, names=names: _draw_stages(axis, curves, group, names))
    return draws


def _draw_psnr(axis: Axes, curves: Curves, sets: Sequence[str], scale: int | None) -> None:
    """Draws PSNR-Y on each validation folder, and as lines what bicubic enlargement and the paper reach there."""
    lines: list[float] = []
    for number, name in enumerate(sets):
        color = f"C{number}"
        steps, values = _columns(curves[f"{name}/psnr_y"])
        best = int(np.argmax(values))
        axis.plot(steps, values, color=color, marker=".", markersize=4, label=f"{name}: best {values[best]:.2f}")
        axis.plot(steps[best], values[best], "o", color=color, markersize=6)
        if points := curves.get(f"{name}/psnr_y_bicubic"):
            lines.append(level := points[-1][1])
            axis.axhline(level, color=color, linestyle=":", linewidth=1, label=f"{name}: bicubic {level:.2f}")
        if scale is not None and (level := published_psnr(name, scale)) is not None:
            lines.append(level)
            axis.axhline(level, color=color, linestyle="--", linewidth=1, label=f"{name}: the paper {level:.2f}")
    _limit(axis, [_columns(curves[f"{name}/psnr_y"])[1] for name in sets], lines=lines)
    axis.set_title("Validation, averaged weights")
    axis.set_ylabel("PSNR-Y (dB)")
    axis.legend(fontsize="small", loc="best")


def _draw_loss(axis: Axes, curves: Curves) -> None:
    steps, values = _columns(curves["loss"])
    window = max(1, len(values) // 40)
    axis.plot(steps, values, color="C0", alpha=0.3, linewidth=0.6)
    axis.plot(
        steps, _running_mean(values, window), color="C0", linewidth=1.8, label=f"mean of {2 * window + 1} records"
    )
    for step, _ in curves.get("skipped", []):
        axis.axvline(step, color="C3", linewidth=0.8)
    _limit(axis, [values[len(values) // 50 :]], top=99.0)
    axis.set_title("Loss" + (", red: steps skipped" if "skipped" in curves else ""))
    axis.set_ylabel("loss, intensities in 0..1")
    axis.legend(fontsize="small", loc="upper right")


def _draw_time(axis: Axes, curves: Curves) -> None:
    """Draws seconds per step, and how many of them were spent waiting for data."""
    steps, seconds = _columns(curves["seconds_per_step"])
    shares = dict(curves.get("data_wait_share", []))
    waited = seconds * np.array([shares.get(step, 0.0) for step in steps.tolist()])
    usual, window = float(np.median(seconds)), max(1, len(seconds) // 100)
    both, data = (
        _running_mean(np.minimum(seconds, 5 * usual), window),
        _running_mean(np.minimum(waited, 5 * usual), window),
    )
    axis.fill_between(steps, data, both, color="C0", alpha=0.35, linewidth=0, label="computing")
    axis.fill_between(steps, 0, data, color="C1", alpha=0.8, linewidth=0, label="waiting for data")
    axis.plot(steps, seconds, color="C0", alpha=0.5, linewidth=0.6)
    axis.set_ylim(0, 3 * usual)
    unit = EngFormatter(unit="s", places=1)
    axis.yaxis.set_major_formatter(EngFormatter(unit="s"))
    axis.set_title(f"Time per step: {unit(usual)}, {waited.sum() / seconds.sum():.0%} waiting for data")
    axis.set_ylabel("time per step")
    axis.legend(fontsize="small", loc="upper right")


def _draw_stages(axis: Axes, curves: Curves, group: str, names: Sequence[str]) -> None:
    """Draws a quantity of every stage, from the first (dark) to the last (light)."""
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(names)))
    for name, color in zip(names, colors, strict=True):
        steps, values = _columns(curves[name])
        number = name.rpartition("_")[2]
        label = f"stage {number}" if name in (names[0], names[-1]) or len(names) <= 4 else None
        axis.plot(steps, values, color=color, linewidth=1.2, marker=".", markersize=3, label=label)
    if len(names) > 1 or "/" in group:
        _limit(axis, [_columns(curves[name])[1] for name in names])
    folder, slash, _ = group.rpartition("/")
    axis.set_title(f"{folder}: PSNR-Y after each stage" if slash else _BARE.get(group, group))
    axis.set_ylabel("PSNR-Y (dB)" if slash else "")
    axis.legend(fontsize="small", loc="best")


def _draw_lines(axis: Axes, curves: Curves, names: Sequence[str], title: str, unit: str, *, log: bool = False) -> None:
    for name in names:
        steps, values = _columns(curves[name])
        short = name.removesuffix("_norm").rpartition("/")[0] or name.removesuffix("_norm")
        axis.plot(steps, values, linewidth=1.2, label=short)
    if log and min(value for name in names for _, value in curves[name]) > 0:
        axis.set_yscale("log")
    axis.set_title(title)
    axis.set_ylabel(unit)
    if len(names) > 1:
        axis.legend(fontsize="small", loc="best")


def _time_axis(axis: Axes, curves: Curves) -> None:
    """Puts the time that the steps took, without evaluations and saves, above the steps of a panel."""
    if len(curves.get("seconds_per_step", [])) < 2:
        return
    steps, seconds = _columns(curves["seconds_per_step"])
    hours = np.cumsum(seconds * np.diff(steps, prepend=0)) / 3600
    unit, factor = "hours", 1
    if hours[-1] < 2:
        unit, factor = ("minutes", 60) if hours[-1] >= 2 / 60 else ("seconds", 3600)
    ticks = [tick for tick in axis.get_xticks() if 0 < tick <= steps[-1]]
    times = factor * np.interp(ticks, steps, hours)
    above = axis.secondary_xaxis("top")
    above.set_xticks(ticks, [f"{time:.1f}" if times[-1] < 10 else f"{time:.0f}" for time in times])
    above.set_xlabel(f"{unit} of training")


def _limit(axis: Axes, curves: Sequence[np.ndarray], *, lines: Sequence[float] = (), top: float = 100.0) -> None:
    """Shows what matters of curves: without their lowest twentieth, if it lies far below, and up to a percentile."""
    values = np.concatenate(curves)
    low = min([float(np.percentile(values, 5)), *lines])
    high = max([float(np.percentile(values, top)), *lines])
    low = max(min(low, float(values.min())), 2 * low - high)
    if high > low:
        axis.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def _columns(points: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    steps, values = zip(*points, strict=True)
    return np.array(steps), np.array(values, np.float64)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of as many values as there are up to `window` to each side."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - window, 0), np.minimum(index + window + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
