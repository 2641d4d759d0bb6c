"""What compiling and running a program costs, and whether it fits into memory."""

import functools
import math
import os
from typing import Any

import jax
import numpy as np

from isr_jax.config import UserError


def compile_program(lowered: jax.stages.Lowered, options: dict[str, str]) -> tuple[jax.stages.Compiled, bool]:
    """Compiles, told so, and returns whether the program came from JAX's cache on disk."""
    hits = _cache_hits()
    before = len(hits)
    return lowered.compile(compiler_options=dict[str, Any](options)), len(hits) > before


def needed_bytes(program: jax.stages.Compiled) -> int:
    """Returns the memory that a program takes while it runs; 0 where the backend does not say."""
    memory: Any = program.memory_analysis()
    if memory is None:
        return 0
    return memory.temp_size_in_bytes + memory.output_size_in_bytes + memory.argument_size_in_bytes


def memory_of_host() -> float | int:
    """Returns the bytes of memory of this computer, infinity where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return math.inf


def does_not_fit(lr: np.ndarray | jax.Array, needed: int | None = None) -> UserError:
    """Returns the error for LR pictures that are too large, with the bytes they need if they are known."""
    amount = "" if needed is None else f" (it needs {needed / 2**30:.1f} GiB)"
    size = f"{lr.shape[2]}x{lr.shape[1]}"
    return UserError(
        f"a picture of {size} does not fit into memory with this model{amount}: cut it or use a smaller model"
    )


@functools.cache
def _cache_hits() -> list[str]:
    """Returns a list that grows with each program that JAX finds in its cache; listens from the first call on."""
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    return hits
