"""Which kinds of files are read and written, by their suffixes and by their first bytes, and how large they may be."""

import importlib
import io
import math
import os
from pathlib import Path

from PIL import Image

from isr_jax.config import ConfigError, UserError

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".dib": "BMP",
}
"""What can be written, by the file's suffix."""

READ_SUFFIXES = frozenset(
    [*FORMATS, ".gif", ".apng", ".mpo", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm"]
) | {".qoi", ".heic", ".heif", ".hif", ".jxl"}
"""What a folder's pictures are called. A picture that is named itself is read by its content, whatever its name."""

_OTHER_PICTURES = """
.3fr .arw .blp .cin .cr2 .cr3 .cur .dcm .dcr .dds .djvu .dng .dpx .emf .eps .erf .exr .fit .fits .hdr .icns .ico .iff
.jbig .jbig2 .jng .jxr .kdc .mng .mrw .nef .nrw .orf .pam .pcd .pcx .pef .pfm .pic .psb .psd .raf .ras .raw .rgb .rgba
.rw2 .sgi .sr2 .srf .svg .svgz .tga .wbmp .wdp .wmf .x3f .xbm .xcf .xpm
"""

READ_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "JPEG2000", "PPM", "QOI")
"""Pillow's names of what it reads itself; nothing that runs an interpreter, such as EPS."""

READABLE = "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, PPM, QOI; with isr_jax[formats] HEIC, JPEG XL"
"""The same for messages."""

_PLUGINS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")

MAX_SIDES = {"WEBP": 16383, "JPEG": 65500, "AVIF": 32768}
"""Most pixels of a side, where a format (of AVIF: its readers) sets a limit that people meet."""

_MAX_BYTES = {"BMP": 2**32 - 2**16, "TIFF": 2**32 - 2**20}
_MAX_PIXELS = {"AVIF": 2**28}


def formats_of(data: bytes, name: str) -> tuple[str, ...]:
    """Returns the names of the Pillow formats that a file may have, its plug-in being loaded if it needs one.

    Raises:
      UserError: If the plug-in is not installed.
    """
    kind = _plugin_format(data)
    if kind is None:
        return READ_FORMATS
    try:
        plugin = importlib.import_module(_PLUGINS[kind])
    except ImportError as error:
        kinds = {"HEIF": "HEIC", "JXL": "JPEG XL"}
        raise UserError(f"{name} is {kinds[kind]}; to read it: pip install 'isr_jax[formats]'") from error
    if kind == "HEIF":
        plugin.register_heif_opener()
    return (kind,)


def _plugin_format(data: bytes) -> str | None:
    if data[:2] == b"\xff\x0a" or data[:12] == b"\0\0\0\x0cJXL \r\n\x87\n":
        return "JXL"
    if data[4:8] != b"ftyp":
        return None
    brands = data[8 : max(12, min(int.from_bytes(data[:4], "big"), 256))]
    is_heif = b"avif" not in brands and b"avis" not in brands and any(brand in brands for brand in _HEIF_BRANDS)
    return "HEIF" if is_heif else None


def looks_like_a_picture(data: bytes) -> bool:
    """Tells whether a file begins as those do that are read."""
    begins = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM", b"GIF8", b"qoif")
    return data.startswith(begins) or data[4:8] in (b"ftyp", b"jP  ") or data[:4] == b"\xff\x4f\xff\x51"


def is_left_out(path: Path) -> bool:
    """Tells whether a file is a picture by its name, but of a kind that is not read."""
    return path.suffix.lower() in _OTHER_PICTURES.split()


def format_of(path: str | os.PathLike) -> str:
    """Returns the format that the suffix of a path names.

    Raises:
      ConfigError: If the suffix is not one of `FORMATS`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(
            f"{path}: cannot write {suffix or 'a name without a suffix'}; use one of {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def check_size(image_format: str, height: int, width: int, bytes_per_pixel: int = 3) -> None:
    """Says that a picture is too large for a format, before it is made.

    Raises:
      UserError: If it is; the line names the limit and a remedy.
    """
    most, limit = MAX_SIDES.get(image_format, math.inf), None
    if max(height, width) > most:
        limit = f"{most} pixels a side"
    elif height * width > _MAX_PIXELS.get(image_format, math.inf):
        limit = f"{_MAX_PIXELS[image_format]} pixels"
    elif height * width * bytes_per_pixel > _MAX_BYTES.get(image_format, math.inf):
        limit = "4 GiB"
    if limit is not None:
        raise UserError(
            f"a picture of {width}x{height} cannot be written as {image_format}, which holds {limit}:"
            " write PNG, or choose a smaller scale"
        )


def jxl_size(data: bytes) -> tuple[int, int]:
    """Returns the height and width of a JPEG XL file, whose plug-in decodes it when it opens it.

    Raises:
      ValueError: If there is no code stream in it.
    References: ISO/IEC 18181-1, annex D: the size header; 18181-2: the boxes around it.
    """
    at = 0
    while data[at : at + 2] != b"\xff\x0a":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind in (b"jxlc", b"jxlp") or length < 8:
            at = data.find(b"\xff\x0a", at)
            break
        at += length
    if at < 0 or at + 2 >= len(data):
        raise ValueError("it has no code stream")
    bits = int.from_bytes(data[at + 2 : at + 14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    def side(small: int) -> int:
        return 8 * (1 + take(5)) if small else 1 + take((9, 13, 18, 30)[take(2)])

    small = take(1)
    height = side(small)
    ratio = take(3)
    if ratio == 0:
        return height, side(small)
    above, below = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height, height * above // below


def open_picture(data: bytes, name: str) -> Image.Image:
    """Opens a picture without decoding it, as far as its format allows that.

    Raises:
      UserError: If it needs a plug-in that is not installed.
    """
    return Image.open(io.BytesIO(data), formats=formats_of(data, name))
