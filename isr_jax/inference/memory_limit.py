"""How much memory a process may hold, and what to say where that is not enough."""

import os
import re

from isr_jax.config import ConfigError, UserError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def read_memory(memory: int | float | str) -> int:
    """Returns an amount of memory in bytes.

    Args:
      memory: Bytes, or text such as "2G", "1.5GiB" or "512M"; the units are powers of 1024.
    Raises:
      ConfigError: If it is neither, or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?) ?([KMGT]?)(?:I?B)?", str(memory).upper())
    amount = int(float(match[1]) * _UNITS[match[2]]) if match and not isinstance(memory, bool) else 0
    if amount < 1:
        raise ConfigError(f"`memory` is {memory}; give bytes, or an amount such as 512M or 2G")
    return amount


def write_memory(amount: float | int) -> str:
    """Returns bytes in words, rounded up to two digits behind the point so that as much is enough."""
    unit = "GiB" if amount >= 2**30 else "MiB"
    size = 2**30 if unit == "GiB" else 2**20
    return f"{-(-amount * 100 // size) / 100:g} {unit}"


def resident_bytes() -> int:
    """Returns what this process holds of the computer's memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux
        return 0


def memory_of_host() -> float | int:
    """Returns the bytes of memory of this computer, infinity where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return float("inf")


class TooLarge(Exception):
    """A program that needs more memory than there is."""

    def __init__(self, needed_bytes: int | None = None):
        super().__init__(needed_bytes)
        self.needed_bytes = needed_bytes
        """None where that is not known."""


def does_not_fit(size: tuple[int, int], needed: float | int | None, given: int | None) -> UserError:
    """Returns the error for a picture that is too large.

    Args:
      size: Height and width, LR pixels.
      needed: Bytes that the process would hold, if they are known.
      given: What it was told it may hold, if it was.
    """
    picture = f"a picture of {size[1]}x{size[0]}"
    if given is not None and needed is not None:
        return UserError(
            f"{picture} needs {write_memory(needed)} of memory with this model, more than the {write_memory(given)} of"
            " `memory`: allow as much, cut it or use a smaller model"
        )
    amount = "" if needed is None else f" (it needs {write_memory(needed)})"
    return UserError(f"{picture} does not fit into memory with this model{amount}: cut it or use a smaller model")
