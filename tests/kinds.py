"""Every kind of picture file that is read, made by Pillow or by hand, and the table of what becomes of them.

`python tests/kinds.py` (with isr_jax on the path) writes that table into docs/how-to/pictures.md.
"""

import contextlib
import io
import itertools
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from picture_cases import (
    DISPLAY_P3,
    PICTURE,
    PIXELS,
    adobe_rgb_exif,
    bmp_565,
    chunk,
    gamma,
    png_with,
    primaries,
    saved,
    tiff_pages,
)
from PIL import Image, ImageCms, TiffImagePlugin

from isr_jax.pictures.colour import make_profile
from isr_jax.pictures.encoding import encode_image, save_float_tiff
from isr_jax.pictures.images import read_image
from isr_jax.pictures.picture import Picture

try:
    import pillow_heif
    import pillow_jxl
    import tifffile

    pillow_heif.register_heif_opener()
    PLUGINS = bool(pillow_jxl and tifffile)
except ImportError:
    PLUGINS = False

DOCUMENT = Path(__file__).parents[1] / "docs" / "how-to" / "pictures.md"
BEGIN, END = "<!-- made by tests/kinds.py -->", "<!-- end -->"

GREY = PICTURE.convert("L")
ALPHA = Image.fromarray(np.broadcast_to(np.linspace(255, 40, 36), (24, 36)).astype(np.uint8))
RGBA, LA = PICTURE.copy(), Image.merge("LA", (GREY, ALPHA))
RGBA.putalpha(ALPHA)
DEEP = PIXELS.astype(np.uint16) * 257 + 20
DEEP_GREY = np.asarray(GREY).astype(np.uint16) * 257
DEEP_ALPHA = np.asarray(ALPHA).astype(np.uint16) * 257
PALETTE = PICTURE.quantize(64)
ADOBE = make_profile(((0.3127, 0.3290), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 563 / 256)
GREY_GAMMA = make_profile(((0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), 1.5, grey=True)


def cmyk_profile() -> bytes:
    """Returns a small profile of inks: a table of two points an ink from CMYK to Lab."""
    lab = []
    for c, m, y, k in itertools.product((0, 1), repeat=4):
        light = (1 - 0.9 * k) * np.array([1 - 0.8 * c, 1 - 0.7 * m, 1 - 0.6 * y])
        image = Image.new("RGB", (1, 1), tuple(int(255 * value) for value in light))
        to_lab = ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        lab.append(to_lab.tobytes())
    curve = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table += curve * 4 + b"".join(lab) + curve * 3
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + b"\0" * 78,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"A2B0": table,
    }
    head, body, offset = b"", b"", 132 + 12 * len(tags)
    for tag, content in tags.items():
        head += tag + struct.pack(">2I", offset + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    fields = (offset + len(body), 0x02100000, b"prtr", b"CMYK", b"Lab ", 2000, 1, 1, 0, 0, 0, b"acsp")
    start = struct.pack(">I4xI4s4s4s6H4s28x3i48x", *fields, 63190, 65536, 54061)
    return start + struct.pack(">I", len(tags)) + head + body


def tiff(pixels: np.ndarray, bits: int, photometric: int, data: bytes | None = None, **tags: object) -> bytes:
    """Returns a TIFF of one strip; `data` is the strip where it is not the pixels' bytes."""
    data = pixels.tobytes() if data is None else data
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    entries = {256: pixels.shape[1], 257: pixels.shape[0], 258: (bits,) * channels, 259: 1, 262: photometric, 273: 0}
    entries |= {277: channels, 278: pixels.shape[0], 279: len(data), **{int(tag[1:]): of for tag, of in tags.items()}}
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    for tag, value in entries.items():
        directory[tag] = value
    stream = io.BytesIO()
    directory.save(stream)
    return stream.getvalue() + data


def twelve_bits() -> bytes:
    values = (np.asarray(GREY).astype(np.uint16) * (4095 / 255)).round().astype(np.uint16).reshape(-1, 2)
    packed = np.stack([values[:, 0] >> 4, (values[:, 0] << 4 | values[:, 1] >> 8) & 255, values[:, 1] & 255], 1)
    return tiff(np.asarray(GREY), 12, 1, packed.astype(np.uint8).tobytes())


def bmp(colours: bytes, profile: bytes = b"") -> bytes:
    """Returns a BMP of a version 5 header; `colours` are its fields from the colour space type on, up to the gammas."""
    body = PIXELS[::-1, :, ::-1].tobytes()  # 36 pixels are 108 bytes: no padding
    head = struct.pack("<IiiHHIIiiII", 124, 36, 24, 1, 24, 0, len(body), 0, 0, 0, 0) + b"\0" * 16 + colours
    head += struct.pack("<4I", 4, 124 + len(body) if profile else 0, len(profile), 0)
    return b"BM" + struct.pack("<IHHI", 138 + len(body) + len(profile), 0, 0, 138) + head + body + profile


def calibrated_bmp() -> bytes:
    ends = [0.64, 0.33, 0.03, 0.21, 0.71, 0.08, 0.15, 0.06, 0.79]
    # The ends' sums give the white of Adobe RGB.
    matrix = np.array(ends).reshape(3, 3)
    scale = np.linalg.solve(matrix.T, np.array([0.3127, 0.3290, 0.3583]))
    fields = np.round((matrix * scale[:, None]).ravel() * 2**30).astype("<i4").tobytes()
    return bmp(b"\0\0\0\0" + fields + struct.pack("<3I", *[round(563 / 256 * 65536)] * 3))


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def kinds() -> Iterator[tuple[str, str, bytes]]:
    """Yields the name of each kind, its suffix, and a file of it."""
    for bits in (1, 2, 4):
        steps = 2**bits - 1
        image = Image.fromarray((np.round(np.asarray(GREY) / 255 * steps) * (255 // steps)).astype(np.uint8))
        yield f"grey, {bits} bit{'s' * (bits > 1)}", "png", saved(image, "PNG", bits=bits)
    yield "grey", "png", saved(GREY, "PNG")
    yield "grey, 16 bits", "png", saved(Image.fromarray(DEEP_GREY), "PNG")
    half = Image.fromarray((np.round(np.asarray(GREY) / 17) * 17).astype(np.uint8))
    yield "grey, 4 bits, one of them transparent", "png", saved(half, "PNG", bits=4, transparency=5)
    yield "grey, 16 bits, one transparent", "png", saved(Image.fromarray(DEEP_GREY), "PNG", transparency=100 * 257)
    yield "grey with alpha", "png", saved(LA, "PNG")
    yield "grey with alpha, 16 bits", "png", encode_image(Picture(pixels=DEEP_GREY[..., None], alpha=DEEP_ALPHA), "PNG")
    yield "grey, gamma 1.0", "png", png_with(gamma(1), image=GREY)
    yield "grey, profile", "png", saved(GREY, "PNG", icc_profile=GREY_GAMMA)
    yield "RGB", "png", saved(PICTURE, "PNG")
    yield "RGB, 16 bits", "png", encode_image(Picture(pixels=DEEP), "PNG")
    yield "RGB, one colour transparent", "png", saved(PICTURE, "PNG", transparency=tuple(PIXELS[4, 5].tolist()))
    yield "RGBA", "png", saved(RGBA, "PNG")
    yield "RGBA, 16 bits", "png", encode_image(Picture(pixels=DEEP, alpha=DEEP_ALPHA), "PNG")
    yield "palette", "png", saved(PALETTE, "PNG")
    yield "palette, 4 bits", "png", saved(PICTURE.quantize(16), "PNG", bits=4)
    yield "palette with transparency", "png", saved(PALETTE, "PNG", transparency=bytes(range(100, 164)))
    yield "RGB, profile (Adobe RGB)", "png", saved(PICTURE, "PNG", icc_profile=ADOBE)
    yield "RGB, gamma 1.0", "png", png_with(gamma(1))
    yield "RGB, primaries of Display P3", "png", png_with(gamma(0.45455), primaries(DISPLAY_P3))
    yield "RGB, cICP of Display P3", "png", png_with(chunk(b"cICP", bytes([12, 13, 0, 1])))
    yield "RGB, cICP of PQ (HDR)", "png", png_with(chunk(b"cICP", bytes([9, 16, 0, 1])))
    yield "1 pixel", "png", saved(PICTURE.resize((1, 1)), "PNG")
    yield "grey", "jpg", saved(GREY, "JPEG", quality=95)
    yield "RGB", "jpg", saved(PICTURE, "JPEG", quality=95)
    yield "RGB, progressive, colours quartered", "jpg", saved(PICTURE, "JPEG", quality=95, progressive=True)
    yield "RGB, Adobe RGB by EXIF", "jpg", saved(PICTURE, "JPEG", quality=95, exif=adobe_rgb_exif())
    yield "RGB, orientation 6", "jpg", saved(PICTURE, "JPEG", quality=95, exif=_turned())
    yield "CMYK (inverted, as Adobe)", "jpg", saved(PICTURE.convert("CMYK"), "JPEG", quality=95)
    inks = cmyk_profile()
    yield "CMYK, profile", "jpg", saved(PICTURE.convert("CMYK"), "JPEG", quality=95, icc_profile=inks)
    yield "two views (MPO)", "jpg", saved(PICTURE, "MPO", save_all=True, append_images=[PICTURE], quality=95)
    yield "1 pixel", "jpg", saved(PICTURE.resize((1, 1)), "JPEG", quality=95)
    yield "RGB", "webp", saved(PICTURE, "WEBP", quality=95)
    yield "RGBA, lossless", "webp", saved(RGBA, "WEBP", lossless=True)
    yield "RGB, profile (Adobe RGB)", "webp", saved(PICTURE, "WEBP", lossless=True, icc_profile=ADOBE)
    yield "grey, 1 bit", "tif", saved(GREY.convert("1", dither=Image.Dither.NONE), "TIFF")
    yield "grey", "tif", saved(GREY, "TIFF")
    yield "grey, white is 0", "tif", tiff(255 - np.asarray(GREY), 8, 0)
    yield "grey, 12 bits", "tif", twelve_bits()
    yield "grey, 16 bits", "tif", tiff(DEEP_GREY, 16, 1)
    yield "grey, 16 bits, white is 0", "tif", tiff(65535 - DEEP_GREY, 16, 0)
    light = Image.fromarray(np.asarray(GREY).astype(np.float32) / 255)
    yield "grey, floating point on 0..1", "tif", saved(light, "TIFF")
    if PLUGINS:
        unit = PIXELS.astype(np.float32)
        save_float_tiff(stream := io.BytesIO(), Picture(pixels=PIXELS), unit)
        yield "RGB, floating point on 0..1", "tif", stream.getvalue()
    yield "grey with alpha", "tif", saved(LA, "TIFF")
    yield "RGB", "tif", saved(PICTURE, "TIFF")
    yield "RGB, JPEG within", "tif", saved(PICTURE, "TIFF", compression="jpeg", quality=95)
    yield "RGB, 16 bits", "tif", encode_image(Picture(pixels=DEEP), "TIFF")
    yield "RGBA", "tif", saved(RGBA, "TIFF")
    yield "RGBA, premultiplied", "tif", tiff(np.asarray(RGBA.convert("RGBa")), 8, 2, x338=1)
    yield "RGBA, 16 bits", "tif", encode_image(Picture(pixels=DEEP, alpha=DEEP_ALPHA), "TIFF")
    yield "palette", "tif", saved(PALETTE, "TIFF")
    yield "CMYK", "tif", saved(PICTURE.convert("CMYK"), "TIFF")
    yield "CMYK, profile", "tif", saved(PICTURE.convert("CMYK"), "TIFF", icc_profile=inks)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    yield "Lab", "tif", saved(ImageCms.profileToProfile(PICTURE, srgb, lab, outputMode="LAB"), "TIFF")
    yield "with a thumbnail page", "tif", tiff_pages(1)
    yield "RGB", "bmp", saved(PICTURE, "BMP")
    yield "grey", "bmp", saved(GREY, "BMP")
    yield "RGB, 5-6-5 bits", "bmp", bmp_565()
    yield "palette", "bmp", saved(PALETTE, "BMP")
    yield "RGB, profile (Adobe RGB)", "bmp", bmp(b"DEBM" + b"\0" * 48, ADOBE or b"")
    yield "RGB, calibrated (Adobe RGB)", "bmp", calibrated_bmp()
    yield "palette", "gif", saved(PALETTE, "GIF")
    yield "palette with transparency", "gif", saved(PALETTE, "GIF", transparency=3)
    yield "RGB", "avif", saved(PICTURE, "AVIF", quality=95, subsampling="4:4:4")
    yield "RGBA", "avif", saved(RGBA, "AVIF", quality=95, subsampling="4:4:4")
    yield "RGB, orientation 6", "avif", saved(PICTURE, "AVIF", quality=95, subsampling="4:4:4", exif=_turned())
    yield "grey", "jp2", saved(GREY, "JPEG2000")
    yield "grey, 16 bits", "jp2", saved(Image.fromarray(DEEP_GREY), "JPEG2000")
    yield "RGB", "jp2", saved(PICTURE, "JPEG2000")
    yield "RGBA", "jp2", saved(RGBA, "JPEG2000")
    yield "1 bit", "pbm", saved(GREY.convert("1", dither=Image.Dither.NONE), "PPM")
    yield "grey", "pgm", saved(GREY, "PPM")
    yield "grey, 16 bits", "pgm", saved(Image.fromarray(DEEP_GREY), "PPM")
    yield "RGB", "ppm", saved(PICTURE, "PPM")
    yield "RGB", "qoi", saved(PICTURE, "QOI")
    yield "RGBA", "qoi", saved(RGBA, "QOI")
    if PLUGINS:
        yield "RGB", "heic", saved(PICTURE, "HEIF", quality=95, chroma=444)
        yield "RGBA", "heic", saved(RGBA, "HEIF", quality=95, chroma=444)
        p3 = {"color_primaries": 12, "transfer_characteristic": 13, "save_nclx_profile": True}
        yield "RGB, Display P3 by its box", "heic", saved(PICTURE, "HEIF", quality=95, chroma=444, **p3)
        yield "RGB", "jxl", saved(PICTURE, "JXL", lossless=True)
        yield "RGBA", "jxl", saved(RGBA, "JXL", lossless=True)
        yield "grey, 16 bits", "jxl", saved(Image.fromarray(DEEP_GREY), "JXL", lossless=True)


def refused() -> Iterator[tuple[str, str, bytes]]:
    """Yields kinds that are refused by name, as `kinds` does."""
    moving = {"save_all": True, "append_images": [PICTURE.rotate(180)]}
    yield "animated", "gif", saved(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)])
    yield "animated", "png", saved(PICTURE, "PNG", **moving)
    yield "animated", "webp", saved(PICTURE, "WEBP", **moving)
    yield "animated", "avif", saved(PICTURE, "AVIF", **moving)
    yield "several pages", "tif", saved(PICTURE, "TIFF", **moving)
    yield "floating point outside 0..1", "tif", saved(Image.fromarray(np.asarray(GREY).astype(np.float32)), "TIFF")


def describe(picture: Picture) -> str:
    """Returns what a picture is, in the words of the table."""
    words = "grey" if picture.pixels.shape[2] == 1 else "RGB"
    words += " + alpha" if picture.alpha is not None else ""
    words += f", {8 * picture.pixels.itemsize} bits"
    words += ", profile" if picture.icc_profile else ""
    return words + (", cICP" if picture.cicp else "")


def write_kinds(folder: Path) -> dict[str, str]:
    """Writes a file of each kind that is read; returns their kinds by name."""
    names = {}
    for number, (kind, suffix, data) in enumerate(kinds()):
        names[f"{number:02}.{suffix}"] = kind
        (folder / f"{number:02}.{suffix}").write_bytes(data)
    return names


def table(names: dict[str, str], outputs: Path) -> list[str]:
    """Returns the lines of the table, from the outputs of `isr-jax upscale` on the folder of `write_kinds`."""
    lines = ["| goes in | | comes out | |", "| --- | --- | --- | --- |"]
    for name, kind in names.items():
        (path,) = outputs.glob(f"{Path(name).stem}.*")
        lines.append(f"| {Path(name).suffix[1:]} | {kind} | {path.suffix[1:]} | {describe(read_image(path))} |")
    return lines + [f"| {suffix} | {kind} | | refused |" for kind, suffix, _ in refused()]


def _main() -> None:
    from isr_jax import upscale

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        inputs = Path(folder, "in")
        inputs.mkdir()
        names = write_kinds(inputs)
        code = upscale.main([str(inputs), "-o", f"{folder}/out", "--model", "bicubic", "--scale", "2"])
        lines = table(names, Path(folder, "out"))
    text = DOCUMENT.read_text()
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    DOCUMENT.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{after}")
    sys.exit(code)


if __name__ == "__main__":
    _main()
