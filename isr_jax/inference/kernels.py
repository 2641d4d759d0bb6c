"""Blur kernels as users bring them: read from a file, and checked where they meet a model."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from isr_jax.config import ConfigError


def read_kernel(path: Path) -> Shaped[np.ndarray, "..."]:
    """Reads a blur kernel from an .npy file; `check_kernel` says whether it is one.

    Raises:
      ConfigError: If there is no such file, or it is damaged.
    """
    try:
        kernel = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; save the kernel with numpy.save") from error
    except Exception as error:  # of a damaged header numpy raises nearly everything
        raise ConfigError(f"{path} is damaged or not an .npy file; save the kernel with numpy.save") from error
    if not isinstance(kernel, np.ndarray):
        raise ConfigError(f"{path} holds several arrays; save the kernel alone, with numpy.save")
    return kernel


def check_kernel(kernel: Any, channels: int) -> Float[np.ndarray, "rows cols *channels"]:
    """Returns a blur kernel as float32.

    Args:
      kernel: (k, k), or (k, k, channels) with one for each channel. Its sides need be neither equal nor odd.
      channels: Of the model.
    Raises:
      ConfigError: If it is none: of another shape, not finite, or with a sum that no blur has.
    """
    kernel = np.asarray(kernel)
    if kernel.dtype.kind not in "fiu":
        raise ConfigError(f"`kernel` holds {kernel.dtype}; a blur kernel holds real numbers")
    if kernel.ndim not in (2, 3) or kernel.size == 0 or (kernel.ndim == 3 and kernel.shape[2] != channels):
        raise ConfigError(f"`kernel` has shape {kernel.shape}; the model wants (k, k) or (k, k, {channels})")
    kernel = kernel.astype(np.float32)
    if not np.isfinite(kernel).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(kernel))[0])
        raise ConfigError(f"`kernel` holds {kernel[place]} at {place}; a blur kernel is finite")
    smallest = float(kernel.sum(axis=(0, 1), dtype=np.float64).min())
    if smallest < 1e-6:
        raise ConfigError(f"`kernel` sums to {smallest:.3g}; the weights of a blur sum to 1")
    return kernel


def check_kernel_fits(kernel: Float[np.ndarray, "rows cols *channels"], height: int, width: int) -> None:
    """Raises unless a kernel is at most as large as the HR picture that it blurs.

    Raises:
      ConfigError: If it is larger.
    """
    rows, cols = kernel.shape[:2]
    if rows > height or cols > width:
        raise ConfigError(f"`kernel` is {cols}x{rows}, larger than the enlarged picture of {width}x{height}")
