"""The command ``isr-jax upscale``: super-resolves pictures, folders of them, and what comes through a pipe."""

import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from isr_jax.__main__ import PARTLY_DONE, in_flags, run
from isr_jax.command_line import parse_arguments
from isr_jax.config import UserError
from isr_jax.files import write_file
from isr_jax.inference.shards import read_shard
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
from isr_jax.upscale_models import Enlarger, make_enlarger, note
from isr_jax.upscale_options import PIPE, UpscaleConfig, check
from isr_jax.upscale_plan import left_out, plan
from isr_jax.upscale_watch import arrivals


def main(argv: list[str] | None = None) -> int:
    """Super-resolves as the command line says. Returns the exit code, `PARTLY_DONE` where some of it could not be."""
    given = parse_arguments(
        UpscaleConfig, argv, prog="isr-jax upscale", description="Super-resolves pictures and folders of them."
    )
    config = check(given)
    if config.watch:
        return watch(config)
    shard = None if config.shard is None else read_shard(config.shard, os.environ)
    jobs = plan(config, shard)
    if shard is not None:
        note(config, f"isr-jax: share {shard.index} of {shard.count}: {len(jobs)} of the pictures")
    not_read = left_out(config)
    name_left_out(not_read)
    todo = [(source, target) for source, target in jobs if not (config.skip_existing and Path(target).exists())]
    if not todo:
        note(config, f"nothing to do: all {len(jobs)} exist" if jobs else "nothing to do: no picture is in this share")
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
                if len(jobs) == 1:
                    raise
    except BaseException:  # an interrupt, too, is said in a line of its own
        progress.clear()
        raise
    for line in failed:
        print(f"isr-jax: {in_flags(line)}", file=sys.stderr)
    if len(failed) == len(jobs):
        raise UserError(f"all {len(todo)} pictures failed")
    if failed:
        print(f"isr-jax: {len(failed)} of {len(todo)} pictures failed; the others are done", file=sys.stderr)
    return PARTLY_DONE if failed or not_read else 0


def watch(config: UpscaleConfig) -> int:
    """Enlarges what arrives until it is interrupted. What fails is said, and left alone until it changes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # services are ended by it

    def tell(line: str) -> None:
        print(f"isr-jax: {in_flags(line)}", file=sys.stderr, flush=True)

    arrived, done = arrivals(config, tell), 0
    enlarger = make_enlarger(config)
    note(config, f"isr-jax: watching {', '.join(config.inputs)}; Ctrl-C ends it")
    progress = Progress(total=1, quiet=config.quiet, json_lines=config.json_lines)
    try:
        for source, target in arrived:
            progress.number = 0
            progress.begin(source)
            try:
                progress.end(target, upscale_file(source, target, enlarger, config, progress.within))
                done += 1
            except (UserError, OSError, MemoryError) as error:
                line = _one_line(source, error)
                progress.end(target, error=in_flags(line))
                tell(line)
    except KeyboardInterrupt:
        progress.clear()
        note(config, f"isr-jax: ended; {done} enlarged, and nothing half-written")
    return 0


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
        image_format = format_of(f"-.{(config.format or 'png').lstrip('.')}" if target == PIPE else target)
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
        note(config, (CLEAR if sys.stderr.isatty() else "") + f"isr-jax: {source}: {remark}")


if __name__ == "__main__":
    run(main)
