"""Damaged files: what reads them ends with a picture or with one line, soon, and without much memory.

    python experiments/fuzz_files.py --pictures 2000 --models 500

Files of all formats and modes that Pillow and its plug-ins write, with profiles and metadata in them, are damaged
(bytes changed, runs of bytes repeated, left out or set, the end cut off) and read as `isr-jax upscale` reads them; what
can be read is written again. Batches run in processes of their own, so that a crash or a hang of a decoder is seen.
Small model files are damaged and loaded in the same way.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

from isr_jax.config import ConfigError, UserError
from isr_jax.pictures.encoding import encode_image
from isr_jax.pictures.images import read_image, read_size, scaled_picture

FORMATS = ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "QOI", "MPO", "HEIF", "JXL"]
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"]
LENGTHS = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\x20\0"]
BATCH = 100
SLOW = 20.0
"""Seconds that a file may take on a machine that does other things, too; a batch that takes ten times as long hangs."""

_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" tiff:ImageWidth="36"/></x:xmpmeta>'


def sources() -> dict[str, bytes]:
    """Returns a file of each format and mode that can be written here, by their names."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    with contextlib.suppress(ImportError):
        import pillow_jxl  # noqa: F401
    rows, cols = np.mgrid[:24, :36]
    pixels = np.stack([cols * 7, rows * 10, 255 - cols * 5], -1).clip(0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif.update({ExifTags.Base.Orientation: 6, ExifTags.Base.Copyright: "someone", ExifTags.Base.XResolution: 300.0})
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.ColorSpace: 65535, ExifTags.Base.ExifImageWidth: 36})
    options = {
        "exif": exif.tobytes(),
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "xmp": _XMP,
        "dpi": (300, 300),
    }
    files = {}
    for mode in MODES:
        if mode == "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        else:
            image = Image.fromarray(pixels).convert("RGB" if mode != "F" else "L").convert(mode)
            image = image.point(lambda value: value / 255 + 0) if mode == "F" else image  # on 0..1
        for name in FORMATS:
            for given in (options, {}):
                stream = io.BytesIO()
                with contextlib.suppress(Exception):  # what cannot be written is no source
                    image.save(stream, name, **given)
                    files[f"{name} {mode}{' with metadata' if given else ''}"] = stream.getvalue()
    return files


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns the bytes of a file, damaged."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        reach = min(len(damaged), 200 if rng.random() < 0.5 else len(damaged))
        at, length = int(rng.integers(0, max(reach, 1))), int(rng.integers(1, 9))
        match rng.integers(0, 6):
            case 0 | 1:
                damaged[at : at + 1] = bytes([rng.integers(0, 256)])
            case 2:
                damaged[at : at + length] = rng.bytes(length)
            case 3:
                del damaged[at : at + length]
            case 4:
                damaged[at:at] = damaged[at : at + 10 * length]
            case 5:
                damaged[at : at + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\x20\0"][
                    length % 4
                ]
    if rng.random() < 0.2:
        damaged = damaged[: rng.integers(0, len(damaged) + 1)]
    return bytes(damaged)


def try_picture(data: bytes) -> str:
    """Reads, and if that works enlarges and writes; returns how it ended, "FAULT" first where it should not."""
    try:
        height, width = read_size(data)
        picture = read_image(data)
        if picture.pixels.shape[:2] != (height, width):
            return f"FAULT: {picture.pixels.shape} is not the size {height}x{width}"
        if picture.pixels.size < 2**20:
            picture = scaled_picture(picture, picture.pixels.repeat(2, axis=0).repeat(2, axis=1))
            for image_format in ("PNG", "TIFF", "WEBP", "JPEG"):
                alpha = None if image_format == "JPEG" else picture.alpha
                again = read_image(encode_image(dataclasses.replace(picture, alpha=alpha), image_format))
                if again.pixels.shape[:2] != picture.pixels.shape[:2]:
                    return f"FAULT: written as {image_format}, it comes back as {again.pixels.shape}"
        return "read with remarks" if picture.remarks else "read"
    except UserError as error:
        return "FAULT: more than one line" if "\n" in str(error) else "refused"
    except Exception as error:
        return f"FAULT: {type(error).__name__}: {error}"


def try_model(data: bytes, folder: Path) -> str:
    """Loads a model file; returns how that ended."""
    from isr_jax.models.model_file import load_model

    path = folder / "damaged.safetensors"
    path.write_bytes(data)
    try:
        load_model(path)
        return "read"
    except (UserError, ConfigError) as error:
        return "FAULT: more than one line" if "\n" in str(error) else "refused"
    except Exception as error:
        return f"FAULT: {type(error).__name__}: {error}"


def small_model() -> bytes:
    """Returns a model file of a few numbers."""
    from flax import nnx

    from isr_jax.config import ERDConfig, ModelConfig
    from isr_jax.models.model_file import save_model
    from isr_jax.solver.unrolled import ISRResCNet

    prior = ERDConfig(features=2, num_blocks=1, feedback_steps=0, kernel_size=3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        save_model(path, ISRResCNet(ModelConfig(scale=2, num_stages=1, prior=prior), rngs=nnx.Rngs(0)))
        return path.read_bytes()


def run_batch(kind: str, first: int, count: int) -> None:
    """Damages and reads files of the numbers `first` and on; prints a line of JSON for each."""
    files = sources() if kind == "pictures" else {"model": small_model()}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            name = list(files)[number % len(files)]
            data = damage(files[name], np.random.default_rng([number, kind == "models"]))
            start = time.perf_counter()
            ended = try_picture(data) if kind == "pictures" else try_model(data, Path(folder))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            line = {
                "number": number,
                "file": name,
                "ended": ended,
                "seconds": time.perf_counter() - start,
                "peak": peak,
            }
            print(json.dumps(line), flush=True)


def run(kind: str, total: int) -> list[dict]:
    """Runs batches in processes of their own; returns their lines, with one for each crash and hang."""
    lines = []
    first = 0
    while first < total:
        count = min(BATCH, total - first)
        argv = [sys.executable, __file__, "--batch", kind, str(first), str(count)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=10 * SLOW, check=False)
            said, trouble = done.stdout, f"crash ({done.returncode}): {done.stderr[-200:]}" if done.returncode else ""
        except subprocess.TimeoutExpired as error:
            said, trouble = (error.stdout or b"").decode(), "hang"
        batch = [json.loads(line) for line in said.splitlines()]
        first += len(batch)
        if trouble:
            batch.append({"number": first, "file": "?", "ended": f"FAULT: {trouble}", "seconds": 0.0, "peak": 0})
            first += 1  # go on behind it
        lines += batch
    return lines


def main() -> None:
    """Runs what the command line says, and prints how it ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--batch", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.batch:
        run_batch(given.batch[0], int(given.batch[1]), int(given.batch[2]))
        return
    faults = 0
    for kind, total in (("pictures", given.pictures), ("models", given.models)):
        lines = run(kind, total)
        ends = Counter(line["ended"] if line["ended"][:5] != "FAULT" else "FAULT" for line in lines)
        slowest, largest = max(line["seconds"] for line in lines), max(line["peak"] for line in lines)
        print(f"{len(lines)} {kind}: {dict(ends)}, slowest {slowest:.2f} s, peak memory {largest / 2**20:.0f} MiB")
        bad = [line for line in lines if line["ended"].startswith("FAULT") or line["seconds"] > SLOW]
        for line in bad:
            print(" ", line)
        faults += len(bad) + (largest > 2**31)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
