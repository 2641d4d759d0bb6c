"""What a picture's file says of itself, without reading its pixels."""

import io
from pathlib import Path

from PIL import ExifTags, Image, ImageCms

from isr_jax.config import UserError
from isr_jax.pictures.decoding import upright_size

_MOST_TEXT = 200
"""Characters of a value that are told."""


def describe_picture(path: Path) -> dict[str, str]:
    """Returns the size, kind, profile and metadata of a picture by their names.

    Raises:
      UserError: If it is no picture that Pillow knows.
    """
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            facts = {"file": f"{path} ({len(data):,} bytes)", "format": str(image.format)}
            facts |= {"size": f"{image.width}x{image.height}", "mode": _mode(image)}
            frames = getattr(image, "n_frames", 1)
            exif = image.getexif()
            facts |= {"frames": str(frames)} if frames > 1 else {}
            if exif.get(ExifTags.Base.Orientation, 1) != 1:
                width, height = upright_size(data, str(path), 2**62)[::-1]
                facts["upright"] = f"{width}x{height} (orientation {exif[ExifTags.Base.Orientation]})"
            facts["profile"] = _profile(image.info.get("icc_profile"))
            for name, value in _tags(exif):
                facts[f"exif {name}"] = value
            for key, value in image.info.items():
                if isinstance(value, str | int | float | tuple) and key not in ("icc_profile", "exif"):
                    facts[str(key)] = _short(value)
            return facts
    except (OSError, ValueError, SyntaxError, TypeError, OverflowError, Image.DecompressionBombError) as error:
        reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise UserError(f"{path}: neither a model, nor a run, nor a picture that can be read{reason}") from error


def _mode(image: Image.Image) -> str:
    kinds = {"1": "black and white", "L": "grey", "LA": "grey with transparency", "P": "palette", "RGB": "colour"}
    kinds |= {"RGBA": "colour with transparency", "CMYK": "ink", "F": "floating point", "I;16": "grey of 16 bits"}
    return f"{image.mode} ({kinds[image.mode]})" if image.mode in kinds else image.mode


def _profile(data: bytes | None) -> str:
    if not data:
        return "none (sRGB)"
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(data))).strip()
    except (ImageCms.PyCMSError, OSError):
        return f"damaged ({len(data):,} bytes)"


def _tags(exif: Image.Exif) -> list[tuple[str, str]]:
    tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    pointers = {tag.value for tag in ExifTags.IFD}
    return [(ExifTags.TAGS.get(tag, str(tag)), _short(value)) for tag, value in tags.items() if tag not in pointers]


def _short(value: object) -> str:
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else " ".join(str(value).split())
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} ..."
