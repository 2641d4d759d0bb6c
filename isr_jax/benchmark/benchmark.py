"""Models on folders of pictures, scored by one locked protocol: a row for each.

The protocol is the field's: 8-bit pictures; the truth cut at the bottom and right to a multiple of the scale; LR
pictures as they are found, or made by the bit-exact imresize (`pictures.pairs`); a border of `scale` pixels left out;
the Y of BT.601, limited range, as real numbers, and for `ssim_y_rounded` in whole levels (`pictures.metrics`). Bicubic
enlargement is always scored first, as a sentinel: on data whose figures are known it must reach them.

A `Degradation` makes other LR pictures, of which there are no known figures. Beside the protocol stands whether a
result agrees with what was observed, `lr_psnr`: PSNR of the LR picture against H of the result in 8 bits, the whole
picture in all channels; H is what made the LR picture, without noise: imresize, in 8 bits, or the degradation. What
else can be measured is in `pictures.measures`.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from isr_jax.benchmark.degradation import Degradation
from isr_jax.benchmark.rows import Benchmark, Cost, Row, Scores, model_label
from isr_jax.config import ConfigError
from isr_jax.inference.bicubic import BICUBIC, BicubicUpscaler
from isr_jax.physics.resize import imresize
from isr_jax.pictures.measures import DEFAULT_MEASURES, Comparison, Measure, find_measures
from isr_jax.pictures.metrics import round_to, round_to_8_bits, score_picture
from isr_jax.pictures.pairs import Dataset, Pair, dataset_name, list_unread, read_dataset

SENTINEL = {
    ("Set5", 2): (33.67, 0.9303),
    ("Set5", 3): (30.40, 0.8689),
    ("Set5", 4): (28.43, 0.8111),
    ("Set14", 2): (30.32, 0.8699),
    ("Set14", 3): (27.63, 0.7759),
    ("Set14", 4): (26.09, 0.7048),
    ("B100", 2): (29.56, 0.8431),
    ("B100", 3): (27.21, 0.7385),
    ("B100", 4): (25.96, 0.6675),
    ("Urban100", 2): (26.88, 0.8403),
    ("Urban100", 3): (24.46, 0.7349),
    ("Urban100", 4): (23.14, 0.6577),
}
"""PSNR-Y and SSIM-Y of bicubic enlargement. Set5 and Set14: measured by this protocol, Y not rounded. B100 and
Urban100: as the field quotes them. How those were rounded is not said; what is quoted for Set5 x2, 0.9299, lies between
the 0.9303 measured here and the 0.9292 on rounded Y. The tolerance holds both, and still tells other pictures."""

SENTINEL_TOLERANCE = (0.05, 0.003)

OF_IMRESIZE = 2.0
"""Mean difference, on 0..255, from which on LR files count as made by something other than imresize."""

LR, TRUTH = "LR", "truth"
"""What the two pictures of a pair are called beside the results."""

OnPicture = Callable[[str, int, str, str, np.ndarray], None]
"""Is given dataset, scale, picture, label (of what made it, or `LR`, `TRUTH`) and the pixels, uint8."""


@runtime_checkable
class AnyUpscaler(Protocol):
    """What the benchmark asks of a model: what `Upscaler` and `BicubicUpscaler` have."""

    name: str
    ensemble: bool
    num_stages: int
    num_parameters: int
    macs_per_pixel: float

    @property
    def seconds(self) -> float:
        """Spent running so far, without compiling."""
        ...

    @property
    def program_bytes(self) -> dict[tuple[int, ...], int]:
        """Memory of each program that ran since this was last cleared."""
        ...

    @property
    def compilations(self) -> int:
        """Programs compiled so far."""
        ...

    @property
    def cache_hits(self) -> int:
        """Programs found in JAX's cache."""
        ...

    @property
    def scale(self) -> float | int:
        """Super-resolution factor; a whole number here."""
        ...

    def upscale_batches(
        self, lr: Shaped[np.ndarray, "batch height width channels"], *, all_stages: bool = False
    ) -> Iterator[Float[np.ndarray, "*stages part hr_height hr_width channels"]]:
        """Yields the HR pictures of a batch, a few at a time, in order; with a leading axis of stages if asked for."""
        ...


def run_benchmark(
    models: str | os.PathLike | AnyUpscaler | Sequence[str | os.PathLike | AnyUpscaler],
    folders: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    scale: int | None = None,
    ensemble: bool = False,
    num_stages: int | None = None,
    per_stage: bool = False,
    degradation: Degradation | str | None = None,
    blur: Any = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    batch_size: int = 16,
    on_picture: OnPicture | None = None,
) -> Benchmark:
    """Scores every model on every folder of pictures.

    Args:
      models: Shipped names, model files, run folders, "bicubic", or upscalers, which keep their own options.
      folders: Folders of pictures, in any of the layouts of `pictures.pairs`.
      scale: Super-resolution factor; the models' own by default. "bicubic" alone needs it.
      ensemble: Average over the eight flips and rotations of each picture ("+").
      num_stages: Stop the solver after so many stages.
      per_stage: Also score the picture after every stage.
      degradation: Makes the LR pictures from the HR ones, whatever LR files there are, as "blur=1.6,noise=5"; see
        `Degradation`. Models that use a physics or a noise level are told them; bicubic enlargement stays as it is.
      blur: Blur that the models are told, as `Upscaler` takes it; beside a degradation in the place of its own.
      measures: What to score by: names of `pictures.measures`, or one's own as "module:function".
      batch_size: Most pictures of one shape that run together.
      on_picture: Is given all pictures: LR, truth and results.
    Raises:
      ConfigError: If a model, a folder, a measure or an option cannot be used.
      UserError: If a picture cannot be read or does not match its partner, or a measure's package is not installed.
    Examples:
      >>> isr_jax.write_image("photos/grey.png", np.full((24, 24), 100, np.uint8))
      >>> isr_jax.run_benchmark("bicubic", "photos", scale=2).rows[0].mean("psnr_y")
      inf
    """
    models = [models] if isinstance(models, str | os.PathLike | AnyUpscaler) else list(models)
    paths = [Path(folder) for folder in ([folders] if isinstance(folders, str | os.PathLike) else folders)]
    names = [dataset_name(path) for path in paths]
    if not paths:
        raise ConfigError("no folder of test pictures is named: name one")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two folders are called {twice[0]}: rename one, or evaluate them apart")
    if scale is not None and scale < 1:
        raise ConfigError(f"scale {scale}: must be at least 1")
    found = find_measures(measures)
    if isinstance(degradation, str):
        degradation = Degradation.parse(degradation)
    told = degradation if degradation is None or blur is None else degradation.told(blur)
    options = {"ensemble": ensemble, "num_stages": num_stages, "batch_size": batch_size}
    options |= {"blur": blur} if degradation is None else {}
    upscalers, scales = _load_models(models, scale, options)
    if per_stage and not any(upscaler.num_stages for upscaler in upscalers):
        raise ConfigError("bicubic enlargement has no stages to score: name a model")
    rows: list[Row] = []
    sentinels: list[Row] = []
    left_out: list[Path] = []
    for path in paths:
        for factor in scales:
            dataset = read_dataset(path, factor, lr_files=degradation is None)
            dataset = dataset if degradation is None else degradation.degrade(dataset)
            left_out += list_unread(path, factor, lr_files=degradation is None)
            if on_picture is not None:
                for pair in dataset.pairs:
                    on_picture(dataset.name, factor, pair.name, LR, round_to(pair.lr, np.uint8))
                    on_picture(dataset.name, factor, pair.name, TRUTH, pair.hr)

            def evaluate(upscaler: AnyUpscaler, dataset: Dataset = dataset) -> Row:
                return _evaluate(upscaler, dataset, found, degradation, told, per_stage, on_picture)

            sentinel = evaluate(BicubicUpscaler(factor))
            sentinel = check_sentinel(sentinel) if degradation is None else sentinel
            sentinels.append(sentinel)
            for upscaler in upscalers:
                if upscaler.scale == factor:
                    is_baseline = isinstance(upscaler, BicubicUpscaler) and upscaler.name == BICUBIC
                    rows.append(sentinel if is_baseline else evaluate(upscaler))
    return Benchmark(rows=tuple(rows), bicubic=tuple(sentinels), left_out=tuple(dict.fromkeys(left_out)))


def super_resolve(
    upscaler: AnyUpscaler, dataset: Dataset, *, per_stage: bool = False, **known: Any
) -> Iterator[tuple[int, list[UInt8[np.ndarray, "height width channels"]]]]:
    """Yields (index, picture after each stage, or only the last) for each pair of a dataset, shape by shape.

    Args:
      upscaler: Ready to run.
      dataset: What to super-resolve.
      per_stage: Whether to yield the picture after every stage; the last one is always the result.
      known: What the upscaler is told of the pictures, as arguments of its `upscale_batches`.
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, pair in enumerate(dataset.pairs):
        groups[pair.lr.shape[:2]].append(index)
    for indices in groups.values():
        # Grey pictures run beside those in colour of the same shape; their channels are averaged, as `upscale` does.
        pictures = [dataset.pairs[index].lr for index in indices]
        colour = max(pixels.shape[2] for pixels in pictures)
        lr = np.stack([np.broadcast_to(pixels, (*pixels.shape[:2], colour)) for pixels in pictures])
        waiting = iter(indices)
        for hr in upscaler.upscale_batches(lr, all_stages=per_stage, **known):
            for result in hr.swapaxes(0, 1) if per_stage else hr[:, None]:
                index = next(waiting)
                if dataset.pairs[index].lr.shape[2] == 1:
                    result = result.mean(axis=-1, keepdims=True)
                yield index, [round_to_8_bits(stage) for stage in result]


def _load_models(
    models: Sequence[str | os.PathLike | AnyUpscaler], scale: int | None, options: dict[str, Any]
) -> tuple[list[AnyUpscaler], list[int]]:
    """Loads what is named; returns the upscalers, with bicubic enlargement once for each scale, and the scales."""
    wanted = list(dict.fromkeys(model if isinstance(model, AnyUpscaler) else str(model) for model in models))
    if not wanted:
        raise ConfigError("no model is named: name one")
    labels = [model_label(model if isinstance(model, str) else model.name) for model in wanted]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ConfigError(f"two models are called {twice[0]}: rename the file or the folder of one")
    loaded: list[AnyUpscaler | None] = []  # None: bicubic, which is made once the scales are known
    for model in wanted:
        if model == BICUBIC:
            loaded.append(None)
        elif isinstance(model, str):
            from isr_jax.inference.upscaler import load  # here, because the baseline needs no JAX

            first = load(model, **options)
            asked = first.scales if scale is None else [scale] if scale in first.scales else [first.scale]
            loaded += [first if s == first.scale else load(model, scale=s, **options) for s in asked]
        else:
            loaded.append(model)
    own = sorted({model.scale for model in loaded if model is not None})
    if scale is None and not own:
        raise ConfigError("bicubic enlargement has no scale of its own: give the scale, 2, 3 or 4")
    for model in loaded:
        if model is not None and model.scale != int(model.scale):
            raise ConfigError(f"{model.name} enlarges by {model.scale:g}: pairs of pictures have whole scales")
        if model is not None and scale not in (None, model.scale):
            raise ConfigError(
                f"{model.name} is made for x{model.scale:g}, not x{scale}: leave out the scale or change it"
            )
    scales = [int(factor) for factor in own] if scale is None else [scale]
    upscalers: list[AnyUpscaler] = []
    for model in loaded:
        upscalers += [BicubicUpscaler(factor) for factor in scales] if model is None else [model]
    return upscalers, scales


def known_of(upscaler: AnyUpscaler, told: Degradation, scale: int) -> dict[str, Any]:
    """Returns what an upscaler can be told of a degradation, as arguments of its `upscale_batches`."""
    from isr_jax.inference.upscaler import Upscaler

    if not isinstance(upscaler, Upscaler):
        return {}
    known: dict[str, Any] = {"value_range": 255}
    if upscaler.config.physics != "none":
        known["physics"] = told.physics(scale)
    if upscaler.uses_noise_std:
        known["noise_std"] = told.noise_std
    return known


def told_of(known: dict[str, Any], physics: str = "physics") -> str:
    """Returns in words what `known_of` returned."""
    words = {"physics": physics, "noise_std": "noise level"}
    return " and ".join(words[name] for name in words if name in known)


def compare(
    result: UInt8[np.ndarray, "height width channels"], pair: Pair, scale: int, degradation: Degradation | None
) -> Comparison:
    """Returns a result beside its pair, as measures take it; the degradation is what made LR, if not imresize."""

    def reduce(picture: np.ndarray) -> np.ndarray:
        return imresize(picture, 1 / scale) if degradation is None else degradation.apply(picture, scale, noisy=False)

    known = degradation is not None or np.abs(reduce(pair.hr).astype(np.float32) - pair.lr).mean() < OF_IMRESIZE
    return Comparison(result=result, truth=pair.hr, lr=pair.lr, scale=scale, reduce=reduce if known else None)


def _evaluate(
    upscaler: AnyUpscaler,
    dataset: Dataset,
    measures: tuple[Measure, ...],
    degradation: Degradation | None,
    told: Degradation | None,
    per_stage: bool,
    on_picture: OnPicture | None,
) -> Row:
    per_stage = per_stage and upscaler.num_stages > 0
    before = upscaler.compilations, upscaler.cache_hits, upscaler.seconds
    upscaler.program_bytes.clear()
    images: dict[int, Scores] = {}
    label = model_label(upscaler.name) + (" +" if upscaler.ensemble else "")
    known = {} if told is None else known_of(upscaler, told, dataset.scale)
    for index, stages in super_resolve(upscaler, dataset, per_stage=per_stage, **known):
        pair = dataset.pairs[index]
        compared = compare(stages[-1], pair, dataset.scale, degradation)
        images[index] = Scores(
            name=pair.name,
            values={measure.name: measure.take(compared) for measure in measures},
            stages_psnr_y=tuple(
                score_picture(stage, pair.hr, dataset.scale, ("psnr_y",))["psnr_y"] or 0.0
                for stage in (stages if per_stage else ())
            ),
        )
        if on_picture is not None:
            on_picture(dataset.name, dataset.scale, pair.name, label, stages[-1])
    cost = Cost(
        num_stages=upscaler.num_stages,
        parameters=upscaler.num_parameters,
        macs_per_pixel=upscaler.macs_per_pixel,
        seconds=upscaler.seconds - before[2],
        peak_bytes=max(upscaler.program_bytes.values(), default=0),
        compilations=upscaler.compilations - before[0],
        cache_hits=upscaler.cache_hits - before[1],
    )
    physics = "physics" if told is degradation else f"physics of {told}"
    if upscaler.name != BICUBIC:
        print(
            f"{upscaler.name} on {dataset.name} x{dataset.scale}: {len(images)} pictures, {cost.compilations}"
            f" compilations, {cost.cache_hits} programs from the cache, {cost.seconds:.1f} s",
            file=sys.stderr,
        )
    return Row(
        model=upscaler.name,
        dataset=dataset.name,
        scale=dataset.scale,
        ensemble=upscaler.ensemble,
        lr_source=dataset.lr_source,
        data_sha256=dataset.sha256,
        measures=measures,
        images=tuple(images[index] for index in sorted(images)),
        cost=cost,
        degradation="" if degradation is None else str(degradation),
        told=told_of(known, physics),
    )


def check_sentinel(row: Row) -> Row:
    """Returns the row with the verdict on it; warns if it does not reach the figures known for the dataset's name."""
    known = SENTINEL.get((row.dataset, row.scale))
    taken = {measure.name for measure in row.measures}
    if known is None or not taken & {"psnr_y", "ssim_y"}:
        return row
    for metric, expected, tolerance in zip(("psnr_y", "ssim_y"), known, SENTINEL_TOLERANCE, strict=True):
        if metric not in taken:
            continue
        measured = row.mean(metric)
        if measured is None or abs(measured - expected) > tolerance:
            print(
                f"isr-jax: WARNING: bicubic enlargement of {row.dataset} x{row.scale} has {metric}"
                f" {measured}, known is {expected}: these are not the usual pictures, quote no figures from them",
                file=sys.stderr,
            )
            return replace(row, sentinel_ok=False)
    return replace(row, sentinel_ok=True)
