"""Blur kernels from files, and blurs as a command line spells them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from isr_jax.config import ConfigError, UserError
from isr_jax.physics.kernels import as_kernels
from isr_jax.pictures.formats import READ_SUFFIXES
from isr_jax.pictures.images import read_image

SPELLINGS = (
    "a standard deviation in HR pixels (1.6), two and an angle in degrees (1.6,0.8,30), or the file of a kernel"
    " (.npy, or a grey picture of it)"
)
"""What stands for a blur on a command line."""


def read_kernel(path: Path) -> Shaped[np.ndarray, "..."]:
    """Reads a blur kernel from an .npy file or a picture of it, and divides it by its sum: no blur changes brightness.

    Args:
      path: Of a picture, any that `read_image` reads, the grey values are the kernel's, black being 0.
    Returns: (k, k), or (k, k, C) for a kernel each of the colours, floating point, of sum 1. Sides may be even.
    Raises:
      ConfigError: If there is no such file, it is damaged, or holds no kernel.
    """
    kernel = _read_picture(path) if path.suffix.lower() in READ_SUFFIXES else _read_array(path)
    if kernel.ndim not in (2, 3) or kernel.shape[2:] not in ((), (1,), (3,)) or 0 in kernel.shape:
        raise ConfigError(f"{path} holds an array of shape {kernel.shape}; a blur kernel has (k, k) or (k, k, 3)")
    try:
        as_kernels(kernel if kernel.ndim == 2 else kernel[None])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    sums = kernel.sum(axis=(0, 1), dtype=np.float64)
    if np.min(sums) < 0:
        raise ConfigError(f"{path}: the blur kernel has the sum {np.min(sums):g}; that of a blur is positive")
    return kernel / sums


def _read_array(path: Path) -> Shaped[np.ndarray, "..."]:
    try:
        kernel = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; a blur is {SPELLINGS}") from error
    except Exception as error:  # of a damaged header numpy raises nearly everything
        raise ConfigError(f"{path} is damaged or not an .npy file; save the kernel with numpy.save") from error
    if not isinstance(kernel, np.ndarray):
        raise ConfigError(f"{path} holds several arrays; save the kernel alone, with numpy.save")
    return kernel


def _read_picture(path: Path) -> Shaped[np.ndarray, "rows cols"]:
    try:
        picture = read_image(path)
    except UserError as error:
        raise ConfigError(str(error)) from None
    pixels = picture.pixels
    if (pixels != pixels[..., :1]).any() or (picture.alpha is not None and picture.alpha.min() < picture.alpha.max()):
        raise ConfigError(f"{path} is in colour or transparent; a picture of a blur kernel is grey: convert it")
    return pixels[..., 0]


def read_blur(text: str) -> Any:
    """Returns the blur that a command line names: 1.6, or 1.6,0.8,30, or the file of a kernel.

    Raises:
      ConfigError: If it is none of those.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        if not text.strip():
            raise ConfigError(f"`blur` is empty; it is {SPELLINGS}") from None
        return read_kernel(Path(text))
    return numbers[0] if len(numbers) == 1 else numbers
