"""The command ``isr-jax evaluate``: PSNR and SSIM of models on folders of pictures, by one locked protocol.

The protocol is the field's: 8-bit pictures; the truth cut at the bottom and right to a multiple of the scale; LR
pictures from the folder LRx<scale>, or made by the bit-exact imresize; a border of `scale` pixels left out; the Y of
BT.601, limited range, as real numbers for PSNR and rounded to whole levels for SSIM (the figures quoted for bicubic
enlargement come out this way). Bicubic enlargement is always scored first, as a sentinel: on data whose figures are
known it must reach them.
"""

import csv
import hashlib
import io
import json
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from isr_jax.__main__ import run
from isr_jax.benchmark.report import LR, TRUTH, Report
from isr_jax.command_line import parse_arguments
from isr_jax.config import ConfigError, UserError
from isr_jax.files import replace_file
from isr_jax.physics.resize import crop_to_multiple, imresize
from isr_jax.pictures.images import list_images, read_image, write_image
from isr_jax.pictures.metrics import crop_border, psnr, rgb_to_luma, ssim
from isr_jax.startup import prepare_process

if TYPE_CHECKING:
    from isr_jax.inference.upscaler import Upscaler

BICUBIC = "bicubic"

SENTINEL = {
    ("Set5", 2): (33.67, 0.9292),
    ("Set5", 3): (30.40, 0.8678),
    ("Set5", 4): (28.43, 0.8101),
    ("Set14", 2): (30.32, 0.8691),
    ("Set14", 3): (27.63, 0.7751),
    ("Set14", 4): (26.09, 0.7041),
    ("B100", 2): (29.56, 0.8431),
    ("B100", 3): (27.21, 0.7385),
    ("B100", 4): (25.96, 0.6675),
    ("Urban100", 2): (26.88, 0.8403),
    ("Urban100", 3): (24.46, 0.7349),
    ("Urban100", 4): (23.14, 0.6577),
}
"""PSNR-Y and SSIM-Y of bicubic enlargement: measured for Set5 and Set14, as the field quotes them for the others."""

SENTINEL_TOLERANCE = (0.05, 0.003)

PROTOCOL = {
    "colour_space": "Y of BT.601, limited range; rgb: RGB",
    "rounding": "pictures to 8 bits; Y for PSNR not, for SSIM to whole levels",
    "ssim_window": "Gaussian 11x11, sigma 1.5, valid",
}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The arguments of the command."""

    model: tuple[str, ...]
    """Shipped names, model files or run folders, side by side; "bicubic" is the baseline."""
    data: tuple[Path, ...]
    """Folders of test pictures: DIR/HR, and DIR/LRx2, LRx3, LRx4 where there are any."""
    scale: int | None = None
    """Super-resolution factor; the models' own by default. Bicubic alone needs it."""
    ensemble: bool = False
    """Average over the eight flips and rotations of each picture ("+")."""
    num_stages: int | None = None
    """Stop the solver after so many stages."""
    per_stage: bool = False
    """Also score the picture after every stage."""
    kernel: Path | None = None
    """Blur kernel (.npy, k x k or k x k x channels) for models whose data term needs one."""
    batch_size: int = 16
    """Most pictures of one shape that run together."""
    json: Path | None = None
    """Write the results here, every picture included."""
    csv: Path | None = None
    """Write the table here, as comma-separated values."""
    markdown: Path | None = None
    """Write the table here, in Markdown."""
    report: Path | None = None
    """Write one page here (.html) with the tables and all pictures, to compare by eye."""
    plot: Path | None = None
    """Write a plot here (.png, .svg, .pdf): PSNR against cost, and with --per-stage against the stage."""
    save_dir: Path | None = None
    """Write the super-resolved pictures below this folder: MODEL/DATASET/x<scale>/NAME.png."""


@dataclass(frozen=True, kw_only=True)
class TestPicture:
    """A pair of the benchmark."""

    __test__ = False  # not a test, whatever pytest makes of the name

    name: str
    """File name without the suffix."""
    hr: UInt8[np.ndarray, "height width channels"]
    """The truth, cut to a multiple of the scale; grey has one channel."""
    lr: UInt8[np.ndarray, "lr_height lr_width channels"]
    """What is super-resolved."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The pairs of a folder at one scale."""

    name: str
    """The folder's name."""
    scale: int
    pictures: tuple[TestPicture, ...]
    lr_source: str
    """"files" or "imresize"."""
    sha256: str
    """Hash of every pixel, HR and LR."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One picture's."""

    name: str
    psnr_y: float
    ssim_y: float | None
    """None for pictures that are smaller than the window."""
    psnr_rgb: float
    ssim_rgb: float | None
    stages_psnr_y: tuple[float, ...] = ()
    """After each stage, if asked for."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model on one dataset: a line of the table."""

    model: str
    dataset: Dataset
    ensemble: bool
    images: tuple[Scores, ...]
    cost: dict[str, Any] = field(default_factory=dict)
    """Parameters, MACs per HR pixel, seconds without compiling, memory of the largest program, compilations."""

    @property
    def label(self) -> str:
        """The model's name in tables and plots: without folders, with + for the ensemble."""
        return _label(self.model, self.ensemble)

    def mean(self, metric: str) -> float | None:
        """Returns the average of a metric over the pictures, None if one of them has none."""
        values = [getattr(scores, metric) for scores in self.images]
        return None if None in values else float(np.mean(values))

    def as_dict(self) -> dict[str, Any]:
        """Returns the row as JSON stores it."""
        dataset = self.dataset
        stages = [scores.stages_psnr_y for scores in self.images]
        return {
            "model": self.model,
            "dataset": dataset.name,
            "scale": dataset.scale,
            "ensemble": self.ensemble,
            **{metric: _finite(self.mean(metric)) for metric in _METRICS},
            **({"stages_psnr_y": [_finite(float(v)) for v in np.mean(stages, axis=0)]} if stages[0] else {}),
            **self.cost,
            **PROTOCOL,
            "border": dataset.scale,
            "lr_source": dataset.lr_source,
            "data_sha256": dataset.sha256,
            "images": [
                {key: _finite(value) for key, value in vars(scores).items() if value != ()} for scores in self.images
            ],
        }


def main(argv: list[str] | None = None) -> None:
    """Evaluates as the command line says."""
    config = parse_arguments(
        EvaluateConfig,
        argv,
        prog="isr-jax evaluate",
        description="PSNR and SSIM of models on folders of test pictures.",
    )
    for path in (config.json, config.csv, config.markdown, config.report, config.plot):
        if path is not None and path.is_dir():
            raise ConfigError(f"{path} is a folder: name a file")
    if config.report is not None and config.report.suffix not in (".html", ".htm"):
        raise ConfigError(f"--report {config.report}: name an .html file")
    if config.plot is not None and config.plot.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--plot {config.plot}: name a .png, .svg or .pdf file")
    report = Report() if config.report else None
    rows, sentinels = evaluate(config, report)
    print(format_table(sentinels + [row for row in rows if row.model != BICUBIC]))
    if config.json:
        result = {"rows": [row.as_dict() for row in rows], "bicubic": [row.as_dict() for row in sentinels]}
        _write(config.json, json.dumps(result, indent=1, allow_nan=False) + "\n")
    if config.csv:
        _write(config.csv, format_csv(rows))
    if config.markdown:
        _write(config.markdown, format_table(sentinels + [row for row in rows if row.model != BICUBIC]) + "\n")
    if config.report and report:
        shown = sentinels + [row for row in rows if row.model != BICUBIC]
        report.write(config.report, [{**row.as_dict(), "label": row.label} for row in shown])
    if config.plot:
        replace_file(config.plot, lambda path: draw(sentinels + [r for r in rows if r.model != BICUBIC], path))


def evaluate(config: EvaluateConfig, report: Report | None = None) -> tuple[list[Row], list[Row]]:
    """Scores every model on every dataset.

    Args:
      config: What to evaluate, and how.
      report: Is given all pictures, if there is one.
    Returns: The rows of the models, in the order asked for, and those of the sentinel, one per dataset and scale.
    Raises:
      ConfigError: If a model, a folder or an option cannot be used.
      UserError: If a picture cannot be read or does not match its partner.
    """
    labels = [_label(name, False) for name in dict.fromkeys(config.model)]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ConfigError(f"--model: two models are called {twice[0]}: rename the file or the folder of one")
    folders = [folder.resolve().name for folder in config.data]
    if not folders:
        raise ConfigError("--data: name a folder of test pictures")
    if twice := sorted({name for name in folders if folders.count(name) > 1}):
        raise ConfigError(f"--data: two folders are called {twice[0]}: rename one, or evaluate them apart")
    models = {name: None if name == BICUBIC else _load(name, config) for name in config.model}
    if config.per_stage and all(model is None for model in models.values()):
        raise ConfigError("--per-stage: bicubic enlargement has no stages; name a model")
    own = sorted({model.scale for model in models.values() if model is not None})
    if config.scale is None and not own:
        raise ConfigError("bicubic enlargement has no scale of its own: give --scale 2, 3 or 4")
    if config.scale is not None and config.scale < 1:
        raise ConfigError(f"--scale {config.scale}: must be at least 1")
    for name, model in models.items():
        if model is not None and config.scale not in (None, model.scale):
            raise ConfigError(f"{name} is made for x{model.scale}, not x{config.scale}: leave out --scale or change it")
    rows: list[Row] = []
    sentinels: list[Row] = []
    for folder in config.data:
        for scale in [config.scale] if config.scale is not None else own:
            dataset = load_dataset(folder, scale)
            if report is not None:
                for picture in dataset.pictures:
                    report.add(dataset.name, scale, picture.name, LR, picture.lr)
                    report.add(dataset.name, scale, picture.name, TRUTH, picture.hr)
            sentinels.append(_evaluate_one(BICUBIC, None, dataset, config, report))
            _check_sentinel(sentinels[-1])
            for name, model in models.items():
                if model is None:
                    rows.append(sentinels[-1])
                elif model.scale == scale:
                    rows.append(_evaluate_one(name, model, dataset, config, report))
    return rows, sentinels


def load_dataset(folder: Path, scale: int) -> Dataset:
    """Reads the pairs of a folder: HR/, with LRx<scale>/ where that exists.

    Raises:
      ConfigError: If there is no such folder, or no HR folder in it.
      UserError: If it has no pictures, one is damaged or not of 8 bits, or HR and LR do not match.
    """
    if not folder.is_dir():
        raise ConfigError(f"--data {folder}: no such folder")
    if not (folder / "HR").is_dir():
        raise ConfigError(f"--data {folder}: has no folder HR; put the full-size pictures into {folder / 'HR'}")
    hr_paths, lr_folder = list_images(folder / "HR"), folder / f"LRx{scale}"
    if not hr_paths:
        raise UserError(f"{folder / 'HR'} has no pictures: put some into it")
    lr_paths = {path.stem: path for path in list_images(lr_folder)} if lr_folder.is_dir() else None
    stems = [path.stem for path in hr_paths]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UserError(f"{folder / 'HR'} has two pictures called {twice[0]}: rename one")
    if lr_paths is not None and set(lr_paths) != set(stems):
        missing, extra = sorted(set(stems) - set(lr_paths)), sorted(set(lr_paths) - set(stems))
        fault = f"{lr_folder} lacks {missing[0]}" if missing else f"{folder / 'HR'} lacks {extra[0]}"
        raise UserError(f"{fault}, which the other folder has: they must hold the same names")
    pictures, digest = [], hashlib.sha256()
    for path in hr_paths:
        full = _read_8_bits(path)
        hr = crop_to_multiple(full, scale)
        if 0 in hr.shape or min(hr.shape[:2]) <= 2 * scale:
            height, width = full.shape[:2]
            raise UserError(f"{path} is {width}x{height}, too small for scale {scale}: leave it out")
        if lr_paths is None:
            lr = imresize(hr, 1 / scale)
        else:
            lr = _read_8_bits(lr_paths[path.stem])
            if lr.shape[2] != hr.shape[2]:  # one of the two is grey
                hr, lr = (x.repeat(3, axis=2) if x.shape[2] == 1 else x for x in (hr, lr))
            height, width = hr.shape[0] // scale, hr.shape[1] // scale
            if lr.shape[:2] != (height, width):
                raise UserError(
                    f"{lr_paths[path.stem]} is {lr.shape[1]}x{lr.shape[0]}; {path.name} at scale {scale} needs"
                    f" {width}x{height}: make it again"
                )
        for pixels in (full, lr):
            digest.update(f"{path.stem} {pixels.shape} ".encode() + pixels.tobytes())
        pictures.append(TestPicture(name=path.stem, hr=hr, lr=lr))
    return Dataset(
        name=folder.resolve().name,
        scale=scale,
        pictures=tuple(pictures),
        lr_source="imresize" if lr_paths is None else "files",
        sha256=digest.hexdigest(),
    )


def super_resolve(
    model: "Upscaler | None", dataset: Dataset, *, per_stage: bool = False
) -> Iterator[tuple[int, list[UInt8[np.ndarray, "height width channels"]]]]:
    """Yields (index, picture after each stage, or only the last) for each picture of a dataset, shape by shape.

    Args:
      model: Ready to run; None is bicubic enlargement.
      dataset: What to super-resolve.
      per_stage: Whether to yield the picture after every stage; the last one is always the result.
    """
    if model is None:
        for index, picture in enumerate(dataset.pictures):
            yield index, [imresize(picture.lr, dataset.scale)]
        return
    from isr_jax.inference.intensities import round_to

    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, picture in enumerate(dataset.pictures):
        groups[picture.lr.shape[:2]].append(index)
    for indices in groups.values():
        # Grey pictures run beside those in colour of the same shape; their channels are averaged, as `upscale` does.
        pictures = [dataset.pictures[index].lr for index in indices]
        colour = max(pixels.shape[2] for pixels in pictures)
        lr = np.stack([np.broadcast_to(pixels, (*pixels.shape[:2], colour)) for pixels in pictures])
        waiting = iter(indices)
        for hr in model.upscale_batches(lr, all_stages=per_stage):
            for result in hr.swapaxes(0, 1) if per_stage else hr[:, None]:
                index = next(waiting)
                if dataset.pictures[index].lr.shape[2] == 1:
                    result = result.mean(axis=-1, keepdims=True)
                yield index, [round_to(stage, np.uint8) for stage in result]


def score(picture: TestPicture, result: UInt8[np.ndarray, "height width channels"], border: int) -> Scores:
    """Scores a super-resolved picture by the protocol."""
    image, truth = crop_border(result, border), crop_border(picture.hr, border)
    luma, luma_truth = rgb_to_luma(image), rgb_to_luma(truth)
    large_enough = min(image.shape[:2]) >= 11
    return Scores(
        name=picture.name,
        psnr_y=psnr(luma, luma_truth),
        ssim_y=ssim(np.round(luma), np.round(luma_truth)) if large_enough else None,
        psnr_rgb=psnr(image, truth),
        ssim_rgb=ssim(image, truth) if large_enough else None,
    )


def _evaluate_one(
    name: str, model: "Upscaler | None", dataset: Dataset, config: EvaluateConfig, report: Report | None
) -> Row:
    per_stage = config.per_stage and model is not None
    seconds, start = 0.0, time.perf_counter()
    before = (0, 0, 0.0) if model is None else (model.compilations, model.cache_hits, model.seconds)
    if model is not None:
        model.program_bytes.clear()
    scores: list[Scores | None] = [None] * len(dataset.pictures)
    for index, stages in super_resolve(model, dataset, per_stage=per_stage):
        seconds += time.perf_counter() - start
        picture = dataset.pictures[index]
        result = score(picture, stages[-1], dataset.scale)
        if per_stage:
            curve = tuple(score(picture, stage, dataset.scale).psnr_y for stage in stages)
            result = Scores(**{**vars(result), "stages_psnr_y": curve})
        scores[index] = result
        if config.save_dir is not None:
            folder = config.save_dir / _label(name, False) / dataset.name / f"x{dataset.scale}"
            write_image(folder / f"{picture.name}.png", stages[-1])
        if report is not None:
            report.add(dataset.name, dataset.scale, picture.name, _label(name, config.ensemble), stages[-1])
        start = time.perf_counter()
    cost: dict[str, Any] = {"parameters": 0, "macs_per_pixel": 0, "seconds": seconds}
    if model is not None:
        cost = {
            "parameters": model.num_parameters,
            "macs_per_pixel": model.macs_per_pixel,
            "seconds": model.seconds - before[2],
            "peak_bytes": model.peak_bytes,
            "compilations": model.compilations - before[0],
            "cache_hits": model.cache_hits - before[1],
            "num_stages": model.num_stages,
        }
        print(
            f"{name} on {dataset.name} x{dataset.scale}: {len(scores)} pictures, {cost['compilations']} compilations,"
            f" {cost['cache_hits']} programs from the cache, {cost['seconds']:.1f} s",
            file=sys.stderr,
        )
    return Row(
        model=name,
        dataset=dataset,
        ensemble=config.ensemble and model is not None,
        images=tuple(s for s in scores if s is not None),
        cost=cost,
    )


def _label(model: str, ensemble: bool) -> str:
    path = Path(os.path.abspath(model))  # "." has no name
    if path.suffix == ".safetensors":
        path = path.parent if path.stem == "model" else path.with_suffix("")  # a run is known by its folder
    return path.name + (" +" if ensemble and model != BICUBIC else "")


def _load(name: str, config: EvaluateConfig) -> "Upscaler":
    from isr_jax.inference import upscaler as infer
    from isr_jax.inference.kernels import read_kernel

    prepare_process()
    kernel = None if config.kernel is None else read_kernel(config.kernel)
    return infer.load(
        name, ensemble=config.ensemble, num_stages=config.num_stages, kernel=kernel, batch_size=config.batch_size
    )


def _check_sentinel(row: Row) -> None:
    """Warns if bicubic enlargement does not reach the figures known for the dataset's name."""
    known = SENTINEL.get((row.dataset.name, row.dataset.scale))
    if known is None:
        return
    for metric, expected, tolerance in zip(("psnr_y", "ssim_y"), known, SENTINEL_TOLERANCE, strict=True):
        measured = row.mean(metric)
        row.cost["sentinel_ok"] = measured is not None and abs(measured - expected) <= tolerance
        if not row.cost["sentinel_ok"]:
            print(
                f"isr-jax: WARNING: bicubic enlargement of {row.dataset.name} x{row.dataset.scale} has {metric}"
                f" {measured}, known is {expected}: these are not the usual pictures, quote no figures from them",
                file=sys.stderr,
            )
            return


def _read_8_bits(path: Path) -> np.ndarray:
    picture = read_image(path)
    if picture.pixels.dtype != np.uint8:
        raise UserError(f"{path} has 16 bits; the protocol is for 8: convert it")
    if picture.alpha is not None and not (picture.alpha == 255).all():
        raise UserError(f"{path} is transparent; the protocol has no transparency: flatten it")
    return picture.pixels


# --- Output -----------------------------------------------------------------------------------------------------------


def format_table(rows: Iterable[Row]) -> str:
    """Returns the rows as a table in Markdown, aligned so that it also reads well in a terminal."""
    quality, cost = ("PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB"), ("parameters", "MAC/pixel", "MiB", "s")
    lines = [["dataset", "scale", "model", *quality, *cost]]
    for row in rows:
        cost = row.cost
        lines.append(
            [
                row.dataset.name,
                f"x{row.dataset.scale}",
                row.label,
                *(
                    "-" if value is None else f"{value:.{digits}f}"
                    for value, digits in (
                        (row.mean("psnr_y"), 2),
                        (row.mean("ssim_y"), 4),
                        (row.mean("psnr_rgb"), 2),
                        (row.mean("ssim_rgb"), 4),
                    )
                ),
                f"{cost['parameters']:,}",
                f"{cost['macs_per_pixel']:,.0f}",
                f"{cost['peak_bytes'] / 2**20:.0f}" if "peak_bytes" in cost else "-",
                f"{cost['seconds']:.1f}",
            ]
        )
    tables = [_align(lines)]
    for row in rows:
        if row.images[0].stages_psnr_y:
            means = np.mean([scores.stages_psnr_y for scores in row.images], axis=0)
            head = [
                f"{row.model} on {row.dataset.name} x{row.dataset.scale}, stage",
                *map(str, range(1, len(means) + 1)),
            ]
            tables.append(_align([head, ["PSNR-Y", *(f"{mean:.2f}" for mean in means)]]))
    return "\n\n".join(tables)


def _align(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    number = [all(cell[:1] in "0123456789-i" for cell in column[1:]) for column in zip(*lines, strict=True)]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, number, strict=True)]

    def line(cells: list[str]) -> str:
        padded = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(cells, widths, number, strict=True)]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(lines[0]), line(rule), *map(line, lines[1:])])


_METRICS = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
_COSTS = ("num_stages", "parameters", "macs_per_pixel", "seconds", "peak_bytes", "compilations", "cache_hits")
_COLUMNS = (
    *("model", "ensemble", "dataset", "scale", "image", *_METRICS, *_COSTS),
    *("border", "colour_space", "rounding", "ssim_window", "lr_source", "data_sha256", "sentinel_ok"),
)


def format_csv(rows: Iterable[Row]) -> str:
    """Returns one line per picture and one for each average (image "mean"), with the protocol in every line."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        average = row.as_dict()
        for image in [*average["images"], {"name": "mean"}]:
            writer.writerow({**average, "image": image["name"], **image})
    return stream.getvalue()


def draw(rows: list[Row], path: Path) -> None:
    """Draws PSNR-Y against multiply-adds, and where there are any, against the stage."""
    from matplotlib.figure import Figure

    curves = [row for row in rows if row.images[0].stages_psnr_y]
    figure = Figure(figsize=(6 * (1 + bool(curves)), 4.5), layout="constrained")
    axes = figure.subplots(1, 1 + bool(curves), squeeze=False)[0]
    for row in rows:
        label = f"{row.label}, {row.dataset.name} x{row.dataset.scale}"
        if row.cost["macs_per_pixel"]:
            axes[0].plot(row.cost["macs_per_pixel"], row.mean("psnr_y"), "o", label=label)
        else:
            axes[0].axhline(row.mean("psnr_y"), color="grey", linestyle=":", label=label)
        if row in curves:
            means = np.mean([scores.stages_psnr_y for scores in row.images], axis=0)
            axes[1].plot(range(1, len(means) + 1), means, "o-", label=label)
    if any(row.cost["macs_per_pixel"] for row in rows):
        axes[0].set_xscale("log")
    axes[0].set(xlabel="multiply-adds per HR pixel", ylabel="PSNR-Y (dB)")
    if curves:
        axes[1].set(xlabel="stage", ylabel="PSNR-Y (dB)")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path)


def _finite(value: Any) -> Any:
    """JSON has no infinity: the PSNR of equal pictures is null there."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    run(main)
