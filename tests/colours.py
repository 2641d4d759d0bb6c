"""How pictures look: their colours by their own colour management, as sRGB."""

import io

import numpy as np
from PIL import Image, ImageCms, ImageOps

SRGB = ImageCms.createProfile("sRGB")


P3_TO_SRGB = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
ADOBE_TO_SRGB = np.array([[1.3984, -0.3984, 0], [0, 1, 0], [0, -0.0429, 1.0429]])


def srgb_of(pixels: np.ndarray, matrix: np.ndarray, exponent: float | None) -> np.ndarray:
    """Returns RGB pixels on 0..255 in sRGB, from a matrix of linear light and a gamma (None: the curve of sRGB)."""
    values = pixels / 255
    if exponent is None:
        light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    else:
        light = values**exponent
    return srgb_curve(light @ matrix.T)


def srgb_curve(light: np.ndarray) -> np.ndarray:
    """Returns linear light on 0..1 as sRGB on 0..255."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def as_seen(data: bytes) -> np.ndarray:
    """Returns a file as a program with colour management shows it: RGB on 0..255, over a middle grey."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        image = image.convert("RGBA") if image.mode == "P" else image
        profile = opened.info.get("icc_profile")
        alpha = np.asarray(image.convert("RGBA"))[..., 3:] / 255 if image.has_transparency_data else 1
        if image.mode[0] in "IF":
            white = 1 if image.mode == "F" else 65535
            image = Image.fromarray(np.round(np.asarray(image) * (255 / white)).astype(np.uint8))
        plain = image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")
        if plain.mode == "RGB" and (profile or b"")[16:20] == b"GRAY":
            plain = image.convert("L")
        if profile is not None or plain.mode == "LAB":
            source = ImageCms.createProfile("LAB") if profile is None else ImageCms.ImageCmsProfile(io.BytesIO(profile))
            plain = ImageCms.profileToProfile(plain, source, SRGB, outputMode="RGB")
        return over_grey(np.asarray(plain.convert("RGB")), alpha)


def over_grey(pixels: np.ndarray, alpha: np.ndarray | float) -> np.ndarray:
    """Returns pixels over a middle grey; `alpha` is on 0..1."""
    return alpha * pixels + (1 - alpha) * 128.0
