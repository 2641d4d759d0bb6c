"""The command ``isr-jax evaluate``: PSNR and SSIM of models on folders of pictures (`benchmark.run_benchmark`)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isr_jax.__main__ import PARTLY_DONE, run
from isr_jax.benchmark.benchmark import LR, TRUTH, run_benchmark
from isr_jax.benchmark.report import Report, format_csv, format_json, format_table, name_unmeasured
from isr_jax.command_line import parse_arguments
from isr_jax.config import ConfigError
from isr_jax.files import check_place, replace_file
from isr_jax.inference.bicubic import BICUBIC
from isr_jax.pictures.images import name_left_out, write_image
from isr_jax.pictures.measures import DEFAULT_MEASURES
from isr_jax.startup import prepare_process

SUFFIXES = {
    "json": (".json",),
    "csv": (".csv",),
    "markdown": (".md", ".markdown"),
    "report": (".html", ".htm"),
    "plot": (".png", ".svg", ".pdf"),
}
"""Of the files that are written: what is named by mistake, a picture or a model, is not replaced."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The arguments of the command."""

    model: tuple[str, ...]
    """Shipped names, model files or run folders, side by side; "bicubic" is the baseline."""
    data: tuple[Path, ...]
    """Folders of test pictures: plain, or DIR/HR with DIR/LRx2, LRx3, LRx4, or DIV2K's."""
    scale: int | None = None
    """Super-resolution factor; the models' own by default. Bicubic alone needs it."""
    ensemble: bool = False
    """Average over the eight flips and rotations of each picture ("+")."""
    num_stages: int | None = None
    """Stop the solver after so many stages."""
    per_stage: bool = False
    """Also score the picture after every stage."""
    degradation: str | None = None
    """Make the LR pictures from the HR ones by a camera of your own, and tell it to the models that can be told:
    blur=1.6,noise=5 (also blur=1.6,0.8,30 or blur=kernel.npy), with sampling=decimation (the default behind a blur),
    bicubic (without one), box or module:Camera, rounding=round, floor or none, jpeg=75 (a file's quality, 4:2:0), and
    what the blur finds beyond the border=symmetric, the picture's mirror image, or periodic."""
    blur: str | None = None
    """Blur that the models are told, as isr-jax upscale takes it: 1.6, or 1.6,0.8,30, or a kernel (.npy, .png); beside
    --degradation instead of its own."""
    measures: tuple[str, ...] = DEFAULT_MEASURES
    """What to score by: psnr_y ssim_y ssim_y_rounded psnr_rgb ssim_rgb lr_psnr ms_ssim lpips dists niqe, or your own as
    module:function."""
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
    """Write a plot here (.png, .svg, .pdf): the first measure against cost, with --per-stage PSNR against the stage."""
    save_dir: Path | None = None
    """Write the super-resolved pictures below this folder: MODEL/DATASET/x<scale>/NAME.png."""


def main(argv: list[str] | None = None) -> int:
    """Evaluates as the command line says. Returns the exit code, `PARTLY_DONE` where some pictures are not read."""
    config = parse_arguments(
        EvaluateConfig,
        argv,
        prog="isr-jax evaluate",
        description="PSNR and SSIM of models on folders of test pictures.",
    )
    for name, suffixes in SUFFIXES.items():
        path: Path | None = getattr(config, name)
        if path is None:
            continue
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: name a file")
        if path.suffix not in suffixes:
            raise ConfigError(f"--{name} {path}: name a file that ends with {' or '.join(suffixes)}")
        check_place(path)
    if config.batch_size < 1:
        raise ConfigError(f"--batch-size {config.batch_size}: choose at least 1")
    report = Report() if config.report else None

    def keep(dataset: str, scale: int, name: str, label: str, pixels: np.ndarray) -> None:
        if report is not None:
            report.add(dataset, scale, name, label, pixels)
        if config.save_dir is not None and label not in (LR, TRUTH):
            write_image(config.save_dir / label.removesuffix(" +") / dataset / f"x{scale}" / f"{name}.png", pixels)

    blur = None
    if config.degradation is not None or any(name != BICUBIC for name in config.model):  # which needs no JAX
        prepare_process()
        if config.blur is not None:
            from isr_jax.inference.kernels import read_blur

            blur = read_blur(config.blur)
    result = run_benchmark(
        config.model,
        config.data,
        scale=config.scale,
        ensemble=config.ensemble,
        num_stages=config.num_stages,
        per_stage=config.per_stage,
        degradation=config.degradation,
        blur=blur,
        measures=config.measures,
        batch_size=config.batch_size,
        on_picture=keep,
    )
    table = format_table(result.table())
    print(table)
    if config.json:
        _write(config.json, format_json(result))
    if config.csv:
        _write(config.csv, format_csv(result.rows))
    if config.markdown:
        _write(config.markdown, table + "\n")
    if config.report and report:
        report.write(config.report, result.table())
    if config.plot:
        from isr_jax.benchmark.plot import draw_rows  # here, because without a plot there is no need of matplotlib

        draw_rows(result.table(), config.plot)
    name_unmeasured(result.rows)
    name_left_out(result.left_out)
    return PARTLY_DONE if result.left_out else 0


def _write(path: Path, text: str) -> None:
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    run(main)
