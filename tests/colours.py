"""How pictures look: their colours by their own colour management, as sRGB."""

import io

import numpy as np
from PIL import Image, ImageCms

SRGB = ImageCms.createProfile("sRGB")


def srgb_curve(light: np.ndarray) -> np.ndarray:
    """Returns linear light on 0..1 as sRGB on 0..255."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def as_seen(data: bytes) -> np.ndarray:
    """Returns the pixels of a file as a program with colour management shows them: uint8 RGB, alpha left out."""
    with Image.open(io.BytesIO(data)) as image:
        profile = image.info.get("icc_profile")
        plain = image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")
        if profile is None:
            return np.asarray(plain.convert("RGB"))
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return np.asarray(ImageCms.profileToProfile(plain, source, SRGB, outputMode="RGB"))
