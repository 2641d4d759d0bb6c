"""What the numbers of a picture mean as colours, where a file says so by other means than a profile.

An embedded profile always wins. Otherwise the chunks of a PNG (cICP, sRGB, gAMA, cHRM), the boxes of AVIF and HEIC, the
header of a BMP and EXIF's mark of Adobe RGB become a profile, which every format but BMP holds.
References: PNG (third edition), 4.3; ITU-T H.273; ICC.1:2010 (the profile); DCF 2.0 (Adobe RGB in EXIF).
"""

import io
import struct

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from isr_jax.pictures.metadata import exif_is_adobe_rgb

Primaries = tuple[tuple[float, float], ...]
"""x, y of white, red, green and blue."""

_D65 = (0.3127, 0.3290)
_SRGB = (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_ADOBE_RGB = (_D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
_PRIMARIES = {
    1: _SRGB,
    2: _SRGB,  # unspecified
    5: (_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: (_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_LIKE_SRGB = (1, 2, 6, 13, 14, 15)  # the curve of television is shown as sRGB's
HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions that no simple profile describes."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

Colour = tuple[bytes | None, tuple[int, int, int, int] | None, tuple[str, ...]]


def read_colour(image: Image.Image, data: bytes, exif: Image.Exif, *, grey: bool) -> Colour:
    """Returns the profile of a picture, its code points of H.273, and remarks.

    Args:
      image: The picture, open.
      data: The bytes of its file; empty if it has none.
      exif: Its EXIF data.
      grey: Whether its pixels are grey.
    """
    profile = image.info.get("icc_profile") or _boxed_profile(image, data)
    cicp = _read_cicp(image, data)
    remarks = ()
    if profile is not None:
        if _is_profile(profile, grey=grey):
            return profile, cicp, ()
        remarks = ("its colour profile is damaged or not for such pixels: it is left out",)
    try:
        return _described_colour(image, data, exif, cicp, grey=grey), cicp, remarks
    except (ArithmeticError, ValueError, struct.error, np.linalg.LinAlgError):
        return None, cicp, (*remarks, "what it says of its colours is impossible: they are taken as sRGB")


def _described_colour(
    image: Image.Image, data: bytes, exif: Image.Exif, cicp: tuple[int, int, int, int] | None, *, grey: bool
) -> bytes | None:
    if cicp is not None:
        if cicp[1] in HDR or not cicp[3]:
            return None
        if cicp[0] not in _PRIMARIES or not (cicp[1] in _GAMMAS or cicp[1] in _LIKE_SRGB):
            raise ValueError(f"code points {cicp} are not known")
        return make_profile(_PRIMARIES[cicp[0]], _GAMMAS.get(cicp[1]), grey=grey)
    if image.format == "PNG" and "srgb" in image.info:
        return None
    if image.format == "PNG" and ("gamma" in image.info or "chromaticity" in image.info):
        points = image.info.get("chromaticity")
        primaries = _SRGB if points is None else tuple(zip(points[0::2], points[1::2], strict=True))
        gamma = None if "gamma" not in image.info else 1 / image.info["gamma"]
        if gamma is not None and abs(gamma - 2.2) < 0.01 and np.allclose(primaries, _SRGB, atol=2e-3):
            gamma = None  # how encoders say sRGB for readers that know no sRGB chunk
        return make_profile(primaries, gamma, grey=grey)
    if image.format == "BMP" and data[70:74] == b"\0\0\0\0" and int.from_bytes(data[14:18], "little") >= 108:
        ends = np.array(struct.unpack("<9i", data[74:110])).reshape(3, 3) / 2**30
        gammas = struct.unpack("<3I", data[110:122])
        if ends.any() and any(gammas):
            primaries = [tuple(point[:2] / point.sum()) for point in (ends.sum(0), *ends)]
            return make_profile(tuple(primaries), sum(gammas) / 3 / 2**16, grey=grey)
    if exif_is_adobe_rgb(exif):
        return make_profile(_ADOBE_RGB, 563 / 256, grey=grey)
    return None


def _read_cicp(image: Image.Image, data: bytes) -> tuple[int, int, int, int] | None:
    """Returns the code points of a PNG's cICP chunk or of an nclx box; None where they say sRGB or nothing."""
    if image.format == "PNG":
        at = data.find(b"cICP", 33, max(33, data.find(b"IDAT")))
        return None if at < 0 else tuple(data[at + 4 : at + 8])  # pyright: ignore[reportReturnType]
    if image.format in ("AVIF", "HEIF") and (at := data.find(b"colrnclx")) >= 0:
        primaries, transfer = struct.unpack(">2H", data[at + 8 : at + 12])
        if (primaries in (1, 2) and transfer in _LIKE_SRGB) or max(primaries, transfer) > 255:
            return None
        return primaries, transfer, 0, 1
    return None


def _boxed_profile(image: Image.Image, data: bytes) -> bytes | None:
    """Returns the profile where Pillow leaves it: in the box of a JPEG 2000 file, behind the pixels of a BMP."""
    if image.format == "JPEG2000" and (at := data.find(b"colr\x02", 0, 2**16)) >= 0:
        return data[at + 7 : at + 7 + int.from_bytes(data[at + 7 : at + 11], "big")]
    if image.format == "BMP" and data[70:74] == b"DEBM" and int.from_bytes(data[14:18], "little") >= 124:
        at, size = struct.unpack("<2I", data[126:134])
        return data[14 + at : 14 + at + size]
    return None


def _is_profile(profile: bytes, *, grey: bool) -> bool:
    space = profile[16:20]
    return len(profile) > 128 and profile[36:40] == b"acsp" and (space == b"RGB " or (space == b"GRAY" and grey))


def is_grey_profile(profile: bytes | None) -> bool:
    """Tells whether a profile is of grey pictures, so that it does not fit those in colour."""
    return profile is not None and profile[16:20] == b"GRAY"


def make_profile(primaries: Primaries, gamma: float | None, *, grey: bool = False) -> bytes | None:
    """Returns a colour profile (ICC version 4), or None for sRGB itself, which needs none.

    Args:
      primaries: x, y of white, red, green, blue.
      gamma: The exponent from numbers to light; None for the curve of sRGB.
      grey: Make it one of grey pictures, for which only the curve matters.
    Raises:
      ValueError, ArithmeticError, numpy.linalg.LinAlgError: If no colours are like that.
    """
    if gamma is None and (grey or np.allclose(primaries, _SRGB, atol=2e-3)):
        return None
    if gamma is not None and not 0.1 < gamma < 20:
        raise ValueError(f"a gamma of {gamma} is none")
    points = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries])
    if not (np.isfinite(points).all() and (points[0] > 0).all()):
        raise ValueError("no light has such colours")
    white, colours = points[0], points[1:].T
    cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    adapt = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD
    columns = adapt @ (colours * np.linalg.solve(colours, white))
    if not np.abs(columns).max() < 10:
        raise ValueError("the primaries lie on a line")

    def numbers(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def text(words: str) -> bytes:
        content = words.encode("utf-16-be")
        return struct.pack(">4s3I2s2s2I", b"mluc", 0, 1, 12, b"en", b"US", len(content), 28) + content

    if gamma is None:
        curve = b"para\0\0\0\0\0\x03\0\0" + numbers(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    else:
        curve = b"para\0\0\0\0\0\0\0\0" + numbers(gamma)
    tags = {
        b"desc": text("made from what the file says of its colours"),
        b"cprt": text("no copyright"),
        b"wtpt": b"XYZ \0\0\0\0" + numbers(*_D50),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        tags[b"chad"] = b"sf32\0\0\0\0" + numbers(*adapt.ravel())
        for kind, column in zip((b"r", b"g", b"b"), columns.T, strict=True):
            tags[kind + b"XYZ"] = b"XYZ \0\0\0\0" + numbers(*column)
            tags[kind + b"TRC"] = curve
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">2I", offset + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    space = b"GRAY" if grey else b"RGB "
    made = (2000, 1, 1, 0, 0, 0)  # the same picture gives the same file
    head = struct.pack(
        ">I4xI4s4s4s6H4s28x12s48x",
        offset + len(body),
        0x04300000,
        b"mntr",
        space,
        b"XYZ ",
        *made,
        b"acsp",
        numbers(*_D50),
    )
    return head + struct.pack(">I", len(tags)) + table + body


def convert_to_srgb(
    pixels: UInt8[np.ndarray, "height width channels"], profile: bytes
) -> UInt8[np.ndarray, "height width 3"] | None:
    """Returns pixels as sRGB shows them, None where the profile cannot be used."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    converted = image_to_srgb(image, profile)
    return None if converted is None else np.asarray(converted)


def image_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Returns an image of any mode that LittleCMS knows in sRGB; without a profile, one in CIE Lab."""
    try:
        from PIL import ImageCms
    except ImportError:  # Pillow without LittleCMS
        return None
    try:
        source = ImageCms.createProfile("LAB") if profile is None else ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None
