"""Small pictures of kinds that programs like this one get wrong, made by Pillow and by hand."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

_Y, _X = np.mgrid[:24, :36]
PIXELS = np.stack([_X * 7, _Y * 10, 255 - _X * 5], -1).clip(0, 255).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)

DISPLAY_P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def saved(image: Image.Image, image_format: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def png_with(*chunks: bytes, image: Image.Image = PICTURE) -> bytes:
    """Returns a PNG with chunks behind its head."""
    data = saved(image, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100000)))


def primaries(points: tuple[int, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *points))


def bmp_565() -> bytes:
    value = (PIXELS >> np.array([3, 2, 3], np.uint8)).astype("<u2") << np.array([11, 5, 0], "<u2")
    body = value.sum(-1, dtype="<u2")[::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, 36, 24, 1, 16, 3, len(body), 0, 0, 0, 0)
    head += struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


def exif_with_odd_resolution() -> bytes:
    """Returns EXIF whose XResolution is a text."""
    entries = struct.pack("<HHII", 282, 2, 8, 38) + struct.pack("<HHIHH", 296, 3, 1, 2, 0)
    return b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries + b"\0\0\0\0" + b"abcdefg\0"


def adobe_rgb_exif() -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA001: 65535, 0xA005: {1: "R03"}})
    return exif


def tiff_pages(*kinds: int, first: int = 0) -> bytes:
    """Returns a TIFF of a picture and further pages of NewSubfileType `kinds`."""
    pages = []
    for kind in kinds:
        page = PICTURE.resize((9, 6))
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[254] = kind
        page.encoderinfo = {"tiffinfo": tags}
        pages.append(page)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = first
    return saved(PICTURE, "TIFF", save_all=True, append_images=pages, tiffinfo=tags)


def make_cases(folder: Path) -> None:
    """Writes the cases, by name."""
    whole, exif = saved(PICTURE, "JPEG", quality=90), Image.Exif()
    exif.update({0x010E: "a description", 0x8298: "(c) someone", 0x0132: "2024:05:06 07:08:09", 0x0112: 6})
    exif[0x0110] = "a camera"
    kernel = io.BytesIO()
    np.save(kernel, np.full((5, 5), 0.04, np.float32))
    damaged = bytearray(kernel.getvalue())
    damaged[20] ^= 0xFF
    damaged[30] ^= 0x80
    small = PICTURE.resize((9, 6), Image.Resampling.BICUBIC)
    files = {
        "thumbnail.tif": tiff_pages(1),
        "adobe_rgb_by_exif.jpg": saved(PICTURE, "JPEG", exif=adobe_rgb_exif(), quality=95),
        "folder/a.jfif": saved(PICTURE, "JPEG"),
        "folder/b.jpe": saved(PICTURE, "JPEG"),
        "folder/c.dib": saved(PICTURE, "DIB"),
        "folder/d.png": saved(PICTURE, "PNG"),
        "folder/e.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "too_wide.webp": saved(Image.new("RGB", (4100, 4)), "WEBP"),
        "too_wide.jpg": saved(Image.new("RGB", (16500, 4)), "JPEG"),
        "no_end.jpg": whole[:-2],
        "cut.jpg": whole[: len(whole) // 2],
        "gamma_1.png": png_with(gamma(1)),
        "display_p3.png": png_with(gamma(0.45455), primaries(DISPLAY_P3)),
        "hdr_pq.png": png_with(chunk(b"cICP", bytes([9, 16, 0, 1]))),
        "565.bmp": bmp_565(),
        "resolution.png": saved(PICTURE, "PNG", exif=exif_with_odd_resolution()),
        "resolution.webp": saved(PICTURE, "WEBP", exif=exif_with_odd_resolution(), lossless=True),
        "damaged_kernel.npy": bytes(damaged),
        "text_checksum.png": png_with(chunk(b"tEXt", b"Comment\0hello", 1234)),
        "empty_profile.png": png_with(chunk(b"iCCP", b"")),
        "div2k_names/HR/0001.png": saved(PICTURE, "PNG"),
        "div2k_names/LRx4/0001x4.png": saved(small, "PNG"),
        "two_of_a_name/HR/0001.png": saved(PICTURE, "PNG"),
        "two_of_a_name/LRx4/0001.png": saved(small, "PNG"),
        "two_of_a_name/LRx4/0001.bmp": saved(small, "BMP"),
        "metadata.jpg": saved(PICTURE, "JPEG", exif=exif, comment=b"a comment", quality=95),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    np.save(folder / "unit_range.npy", (PIXELS / 255).astype(np.float32))
    bad = PIXELS.astype(np.float32)
    bad[3, 4] = np.nan
    np.save(folder / "nan.npy", bad)
