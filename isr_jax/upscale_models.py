"""What enlarges a picture for ``isr-jax upscale``: a model that is named, or what the picture is believed to need."""

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from isr_jax.config import ConfigError
from isr_jax.inference.automatic import ANY, default_model, model_for, upscale_held
from isr_jax.inference.bicubic import BicubicUpscaler
from isr_jax.inference.estimate import Estimate, estimate_degradation
from isr_jax.inference.sizes import choose_target, largest_factor
from isr_jax.physics.check import changes_when_turned
from isr_jax.physics.names import make_physics
from isr_jax.pictures.picture import Picture
from isr_jax.startup import prepare_process
from isr_jax.upscale_options import BICUBIC, UpscaleConfig, wanted_size

Enlarge = Callable[..., tuple[Picture, np.ndarray | None]]
"""(picture, file, *, exact, reserve, progress), the file being where it comes from, else as `Upscaler.upscale_picture`:
returns the enlarged picture, and, if asked for, its pixels before rounding: float32 on 0..255."""


class Enlarger(NamedTuple):
    """What enlarges pictures."""

    enlarge: Enlarge
    size: Callable[[Picture], tuple[int, int]]
    """Returns the height and width of what `enlarge` will return."""


def make_enlarger(config: UpscaleConfig) -> Enlarger:
    """Returns what enlarges a picture: a model, or bicubic interpolation (which needs no JAX).

    Where no model is named, each picture takes what `choose_model` says.

    Raises:
      ConfigError: If there is no such model, or an option does not fit it.
    """
    size = wanted_size(config)
    wanted: dict[str, Any] = {} if config.scale is None else {"scale": config.scale}
    if size is not None:
        wanted = {"size": size, "fit": config.fit}

    def size_of(picture: Picture) -> tuple[int, int]:
        return choose_target(picture.pixels.shape, **wanted).kept

    if config.model == BICUBIC:
        if not wanted:
            raise ConfigError("bicubic enlargement has no scale of its own: give --scale or --size")
        if _told(config):
            raise ConfigError("bicubic enlargement makes no use of --blur, --noise and --jpeg: leave them out")
        network = {"--strength": config.strength != 1, "--ensemble": config.ensemble}
        network["--num-stages"] = config.num_stages is not None
        if given := [name for name, is_given in network.items() if is_given]:
            raise ConfigError(f"bicubic enlargement has no network: leave out {' and '.join(given)}")
        if config.devices is not None:
            raise ConfigError("bicubic enlargement runs on no device: leave out --devices")
        if config.memory is not None:
            raise ConfigError("bicubic enlargement has no windows: leave out --memory")
        bicubic = BicubicUpscaler(config.scale or 1)

        def interpolate(picture: Picture, file: str | bytes, *, exact: bool, **_: Any) -> tuple[Picture, Any]:
            return bicubic.upscale_picture(picture, exact=exact, **wanted)

        return Enlarger(interpolate, size_of)
    load = functools.cache(lambda name: _load(name, config))
    if config.model:
        wanted = wanted or {"scale": load(config.model).scale}
    elif size is None:
        wanted = wanted or {"scale": 4}
        load(ANY if _told(config) else default_model(wanted["scale"]))  # says now what cannot be

    def enlarge(picture: Picture, file: str | bytes, **options: Any) -> tuple[Picture, np.ndarray | None]:
        shape = picture.pixels.shape
        factor = largest_factor(shape, choose_target(shape, **wanted).size)
        name, estimate = config.model, None
        if not name:
            name, estimate = choose_model(picture, file, factor, config)
        model, known = load(name), dict[str, Any](strength=config.strength)
        if model.config.physics == "blur":
            estimate, found = _believed(picture, file, model, factor, config, estimate)
            known |= found
        if estimate is not None:
            which = "" if config.model else f" ({name})"
            said = [f"{name} {v}" for name in ("blur", "noise", "jpeg") if (v := getattr(config, name)) is not None]
            told = f"; told instead: {', '.join(said)}" if said else ""
            picture = replace(picture, remarks=(*picture.remarks, f"taken for: {estimate}{which}{told}"))
        before = model.exchanged_bytes
        result = upscale_held(model, picture, file, **options, **wanted, **known)
        if config.devices is not None:
            sent = (model.exchanged_bytes - before) / 1e6
            note(config, f"isr-jax: {model.num_devices} devices, of which one sent at most {sent:.3g} MB")
        return result

    return Enlarger(enlarge, size_of)


def choose_model(
    picture: Picture, file: str | bytes, factor: float, config: UpscaleConfig
) -> tuple[str, Estimate | None]:
    """Returns the shipped model for a picture, and what it is believed to be, where that was asked.

    Clean pictures, and those that shrink, are isr-lite's; those of which something is said isr-any's; of the others
    `model_for` decides.
    """
    if _told(config):
        return ANY, None
    if config.no_inspect or factor < 1:
        return default_model(factor), None
    estimate = estimate_degradation(picture, scale=min(4, math.ceil(factor)), file=file)
    return model_for(estimate, factor), estimate


def _told(config: UpscaleConfig) -> bool:
    """Whether the command line says something of what happened to the pictures."""
    return any(value is not None for value in (config.blur, config.noise, config.jpeg))


def _believed(
    picture: Picture, file: str | bytes, model: Any, factor: float, config: UpscaleConfig, estimate: Estimate | None
) -> tuple[Estimate | None, dict[str, Any]]:
    """Returns what is believed of a picture and is to be said, and what a model is told of it.

    Where the command line says all else, that is a frame.
    """
    said = {"blur": config.blur, "noise_std": config.noise, "jpeg": config.jpeg}
    given = {name for name, value in said.items() if value is not None}
    takes = {"blur", "noise_std"} | ({"jpeg"} if model.uses_jpeg else set())
    if config.no_inspect:
        return None, {} if "noise_std" in given else {"noise_std": 0.0}
    if estimate is None:
        estimate = estimate_degradation(picture, scale=model.own_scale(factor), file=file)
    known = estimate.known(given, jpeg=model.uses_jpeg)
    return (None if takes <= given and estimate.frame is None else estimate), known


def _load(name: str, config: UpscaleConfig) -> Any:
    """Loads a model, told what the command line says of the pictures."""
    devices = config.devices
    from isr_jax.inference import upscaler as infer
    from isr_jax.inference.kernels import read_blur

    prepare_process(large_blocks=False)
    model = infer.load(
        name,
        ensemble=config.ensemble,
        num_stages=config.num_stages,
        blur=None if config.blur is None else read_blur(config.blur),
        noise_std=config.noise,
        jpeg=config.jpeg,
        devices=int(devices) if devices is not None and devices.isdecimal() else devices,
        memory=config.memory,
    )
    physics = model.config.physics
    if config.ensemble and ":" in physics and changes_when_turned(make_physics(physics, scale=model.scale)):
        note(
            config, f"isr-jax: {physics} is another on turned pictures, of which --ensemble takes the mean: rather not"
        )
    if config.blur is not None and physics != "blur":
        note(config, f"isr-jax: {name} was trained on {physics} alone; its data steps are told the blur")
    if config.scale is not None:
        model.own_scale(config.scale)
    return model


def note(config: UpscaleConfig, message: str) -> None:
    """Says a line on standard error, where that is wanted."""
    if not config.quiet and not config.json_lines:
        print(message, file=sys.stderr)
