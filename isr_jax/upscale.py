"""The command ``isr-jax upscale``: super-resolves pictures, folders of them, and what comes through a pipe."""

import functools
import io
import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isr_jax.__main__ import PARTLY_DONE, in_flags, run
from isr_jax.command_line import parse_arguments
from isr_jax.config import ConfigError, UserError
from isr_jax.files import write_file
from isr_jax.inference.bicubic import BicubicUpscaler
from isr_jax.inference.estimate import estimate_degradation
from isr_jax.inference.shards import read_shard
from isr_jax.inference.sizes import choose_target, largest_factor
from isr_jax.pictures.encoding import (
    check_bits,
    encode_image,
    fit_to_format,
    save_float_tiff,
    save_image,
    with_bits,
    writing_bytes,
)
from isr_jax.pictures.formats import check_size, format_of
from isr_jax.pictures.images import name_left_out, read_image
from isr_jax.pictures.metadata import NO_METADATA
from isr_jax.pictures.picture import Picture
from isr_jax.progress import CLEAR, Progress
from isr_jax.startup import prepare_process
from isr_jax.upscale_options import BICUBIC, PIPE, UpscaleConfig, check, wanted_size
from isr_jax.upscale_plan import left_out, plan

Enlarge = Callable[..., tuple[Picture, np.ndarray | None]]
"""(picture, file, *, exact, reserve, progress), the file being where it comes from, else as `Upscaler.upscale_picture`:
returns the enlarged picture, and, if asked for, its pixels before rounding: float32 on 0..255."""


class Enlarger(NamedTuple):
    """What enlarges pictures."""

    enlarge: Enlarge
    size: Callable[[Picture], tuple[int, int]]
    """Returns the height and width of what `enlarge` will return."""


def main(argv: list[str] | None = None) -> int:
    """Super-resolves as the command line says. Returns the exit code, `PARTLY_DONE` where some of it could not be."""
    given = parse_arguments(
        UpscaleConfig, argv, prog="isr-jax upscale", description="Super-resolves pictures and folders of them."
    )
    config = check(given)
    shard = None if config.shard is None else read_shard(config.shard, os.environ)
    jobs = plan(config, shard)
    if shard is not None:
        _note(config, f"isr-jax: share {shard.index} of {shard.count}: {len(jobs)} of the pictures")
    not_read = left_out(config)
    name_left_out(not_read)
    todo = [(source, target) for source, target in jobs if not (config.skip_existing and Path(target).exists())]
    if not todo:
        _note(config, f"nothing to do: all {len(jobs)} exist" if jobs else "nothing to do: no picture is in this share")
        return PARTLY_DONE if not_read else 0
    enlarger = make_enlarger(config)
    failed: list[str] = []
    progress = Progress(total=len(todo), quiet=config.quiet, json_lines=config.json_lines)
    try:
        for source, target in todo:
            progress.begin(source)
            try:
                progress.end(target, upscale_file(source, target, enlarger, config, progress.within))
            except (UserError, OSError, MemoryError) as error:
                failed.append(_one_line(source, error))
                if config.json_lines or len(todo) > 1:
                    progress.end(target, error=in_flags(failed[-1]))
                if len(todo) == 1:
                    raise
    except BaseException:  # an interrupt, too, is said in a line of its own
        progress.clear()
        raise
    for line in failed:
        print(f"isr-jax: {in_flags(line)}", file=sys.stderr)
    if len(failed) == len(todo):
        raise UserError(f"all {len(todo)} pictures failed")
    if failed:
        print(f"isr-jax: {len(failed)} of {len(todo)} pictures failed; the others are done", file=sys.stderr)
    return PARTLY_DONE if failed or not_read else 0


def make_enlarger(config: UpscaleConfig) -> Enlarger:
    """Returns what enlarges a picture: a model, or bicubic interpolation (which needs no JAX).

    Where a size is asked for and no model, each picture takes the smallest shipped model that reaches it.

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
        if any(value is not None for value in (config.blur, config.noise, config.jpeg)):
            raise ConfigError("bicubic enlargement makes no use of --blur, --noise and --jpeg: leave them out")
        if config.strength != 1:
            raise ConfigError("bicubic enlargement has no network: leave out --strength")
        if config.devices is not None:
            raise ConfigError("bicubic enlargement runs on no device: leave out --devices")
        if config.memory is not None:
            raise ConfigError("bicubic enlargement has no windows: leave out --memory")
        bicubic = BicubicUpscaler(config.scale or 1)

        def interpolate(picture: Picture, file: str | bytes, *, exact: bool, **_: Any) -> tuple[Picture, Any]:
            return bicubic.upscale_picture(picture, exact=exact, **wanted)

        return Enlarger(interpolate, size_of)
    if not config.model and size is not None:
        load = functools.cache(lambda name: _load(name, config))

        def enlarge(picture: Picture, file: str | bytes, **options: Any) -> tuple[Picture, np.ndarray | None]:
            shape = picture.pixels.shape
            factor = largest_factor(shape, choose_target(shape, **wanted).size)
            return load(default_model(factor)).upscale_picture(picture, **wanted, **options, strength=config.strength)

        return Enlarger(enlarge, size_of)
    model = _load(config.model or default_model(config.scale), config)
    wanted = wanted or {"scale": model.scale}

    def enlarge_told(picture: Picture, file: str | bytes, **options: Any) -> tuple[Picture, np.ndarray | None]:
        before, known = model.exchanged_bytes, {"strength": config.strength}
        if model.config.physics == "blur":
            picture, found = _inspected(picture, file, model, wanted, config)
            known |= found
        result = model.upscale_picture(picture, **wanted, **known, **options)
        if config.devices is not None:
            sent = (model.exchanged_bytes - before) / 1e6
            _note(config, f"isr-jax: {model.num_devices} devices, of which one sent at most {sent:.3g} MB")
        return result

    return Enlarger(enlarge_told, size_of)


def _inspected(
    picture: Picture, file: str | bytes, model: Any, wanted: dict[str, Any], config: UpscaleConfig
) -> tuple[Picture, dict[str, Any]]:
    """Returns what is believed of a picture where the command line does not say it, and says so in its remarks."""
    said = {"blur": config.blur, "noise_std": config.noise, "jpeg": config.jpeg}
    given = {name for name, value in said.items() if value is not None}
    takes = {"blur", "noise_std"} | ({"jpeg"} if model.uses_jpeg else set())
    if config.no_inspect or takes <= given:
        return picture, {} if "noise_std" in given else {"noise_std": 0.0}
    shape = picture.pixels.shape
    scale = model.own_scale(largest_factor(shape, choose_target(shape, **wanted).size))
    estimate = estimate_degradation(picture, scale=scale, file=file)
    return replace(picture, remarks=(*picture.remarks, f"taken for: {estimate}")), estimate.known(
        given, jpeg=model.uses_jpeg
    )


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
    if config.blur is not None and model.config.physics != "blur":
        physics = model.config.physics
        _note(config, f"isr-jax: {name} was trained on {physics} alone; its data steps are told the blur")
    if config.scale is not None:
        model.own_scale(config.scale)
    return model


def default_model(scale: float | int | None) -> str:
    """Returns the smallest shipped model that reaches a scale, or the largest: isr-lite-x2, -x3 or -x4."""
    return f"isr-lite-x{4 if scale is None else min(4, max(2, math.ceil(scale)))}"


def upscale_file(
    source: str,
    target: str,
    enlarger: Enlarger,
    config: UpscaleConfig,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Super-resolves one picture from a file to a file ("-": the pipes). Returns the sizes, for the progress.

    Says on standard error what was damaged and mended, and what of the picture cannot be written.
    """
    file = sys.stdin.buffer.read() if source == PIPE else source
    picture = read_image(file, max_pixels=config.max_pixels)
    if config.strip:
        picture = replace(picture, metadata=NO_METADATA)
    if target.lower().endswith(".npy"):
        result, exact = enlarger.enlarge(picture, file, exact=True, reserve=0, progress=progress)
        _say(config, source, result.remarks)
        write_file(Path(target), lambda stream: np.save(stream, exact))
    else:
        image_format = "PNG" if target == PIPE else format_of(target)
        bits = int(config.bits or 8 * picture.pixels.itemsize)
        if config.bits is not None:
            check_bits(image_format, bits)
        # Said before the work: that the format cannot hold the result.
        check_size(image_format, *enlarger.size(picture), bits // 8 * picture.pixels.shape[2])
        fit_to_format(_most_transparent(picture), image_format)
        channels = picture.pixels.shape[2] + (picture.alpha is not None)
        reserve = writing_bytes(image_format, (*enlarger.size(picture), channels), bits // 8)
        other_bits = bits != 8 * picture.pixels.itemsize
        result, exact = enlarger.enlarge(picture, file, exact=other_bits, reserve=reserve, progress=progress)
        if exact is not None and bits < 32:
            result = with_bits(result, exact, bits)
        result = fit_to_format(result, image_format)
        _say(config, source, result.remarks)
        if target == PIPE:
            data = encode_image(result, image_format, compression=config.compression)
            sys.stdout.buffer.write(data)  # all of it, or nothing
            sys.stdout.buffer.flush()
        else:
            write_file(Path(target), lambda stream: _save(stream, result, exact, image_format, config))
    height, width = picture.pixels.shape[:2]
    made = f"{result.pixels.shape[1]}x{result.pixels.shape[0]}"
    other = config.size is not None and config.fit == "contain" and made != config.size.lower()
    kept = f" (within {config.size}; --fit cover or stretch fills it)" if other else ""
    return f"{width}x{height} -> {made}{kept}"


def _save(
    stream: io.BufferedIOBase, picture: Picture, exact: np.ndarray | None, image_format: str, config: UpscaleConfig
) -> None:
    if exact is not None and config.bits == "32":
        save_float_tiff(stream, picture, exact, compression=config.compression)
        return
    save_image(
        stream,
        picture,
        image_format,
        quality=config.quality,
        subsampling=config.subsampling,
        compression=config.compression,
    )


def _most_transparent(picture: Picture) -> Picture:
    """The pixel of a picture that a format without transparency is least able to hold."""
    alpha = None if picture.alpha is None else picture.alpha.min(keepdims=True)
    return Picture(pixels=picture.pixels[:1, :1], alpha=alpha)


def _one_line(source: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or source}: {error.strerror or error}"
    text = " ".join(str(error).split()) or "not enough memory"
    return text if source in text else f"{source}: {text}"


def _say(config: UpscaleConfig, source: str, remarks: tuple[str, ...]) -> None:
    """Says what a user should know of a picture on standard error, in the place of the bar that may stand there."""
    for remark in remarks:
        _note(config, (CLEAR if sys.stderr.isatty() else "") + f"isr-jax: {source}: {remark}")


def _note(config: UpscaleConfig, message: str) -> None:
    if not config.quiet and not config.json_lines:
        print(message, file=sys.stderr)


if __name__ == "__main__":
    run(main)
