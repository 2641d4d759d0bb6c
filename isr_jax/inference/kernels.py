"""Blur kernels from files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from isr_jax.config import ConfigError


def read_kernel(path: Path) -> Shaped[np.ndarray, "..."]:
    """Reads a blur kernel from an .npy file.

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


def read_blur(text: str) -> Any:
    """Returns the blur that a command line names: 1.6, or 1.6,0.8,30, or the path of a kernel.

    Raises:
      ConfigError: If it is none of those.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        return read_kernel(Path(text))
    return numbers[0] if len(numbers) == 1 else numbers
