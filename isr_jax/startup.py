"""What a command does once, before it computes: a compilation cache on disk, and memory kept for the next step.

Libraries should not change a process for its caller, so importing isr_jax does neither; the commands call
`prepare_process`.
"""

import contextlib
import ctypes
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

CACHE_VARIABLE = "ISR_JAX_COMPILATION_CACHE"
"""Environment variable: a folder for compiled programs, or "off"."""

_stderr_lock = threading.Lock()


LARGE_BLOCK = 2**23
"""Bytes from which a block of memory is handed back where a process is to hold no more than it needs."""


def prepare_process(*, compilation_cache: bool = True, cache: Path | None = None, large_blocks: bool = True) -> None:
    """Does all that this module offers; call it first in a command.

    Args:
      compilation_cache: False leaves the cache out.
      cache: Its folder, where nothing else is said; see `use_compilation_cache`.
      large_blocks: Whether to keep large blocks of memory, too; see `keep_freed_memory`.
    """
    quiet_libraries()
    keep_freed_memory(large_blocks=large_blocks)
    if compilation_cache:
        use_compilation_cache(cache)


def quiet_libraries() -> None:
    """Lets JAX and XLA log errors alone, unless the user has said otherwise (TF_CPP_MIN_LOG_LEVEL)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logger = logging.getLogger("jax")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)


def use_compilation_cache(default: Path | None = None) -> Path | None:
    """Lets JAX keep compiled programs on disk, so that the next start of a command need not compile again.

    The folder is $ISR_JAX_COMPILATION_CACHE, or the one JAX was already told (JAX_COMPILATION_CACHE_DIR), or `default`,
    or `user_cache`. On a GPU, JAX keeps there, too, what XLA has found out by timing kernels. A program is found again
    in a folder that was moved.

    Returns: The folder, or None if $ISR_JAX_COMPILATION_CACHE is "off" or no folder can be made there.
    """
    import jax  # not at the top: a command's --help must not wait for it

    wanted = os.environ.get(CACHE_VARIABLE, "")
    if wanted.lower() in ("off", "0", "none"):
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    folder = Path(wanted or jax.config.jax_compilation_cache_dir or default or user_cache())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home: a slower start is all it costs
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if jax.config.jax_persistent_cache_min_compile_time_secs == 1.0:  # JAX's own, and nothing else was asked for
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)  # what takes less is not worth a file
    return folder


def user_cache() -> Path:
    """Returns the folder for what can be made again: isr_jax in $XDG_CACHE_HOME, or in ~/.cache.

    An empty or relative $XDG_CACHE_HOME does not count, as the XDG Base Directory Specification says.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "isr_jax"


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Sends what libraries below Python write to standard error nowhere; what they raise is not touched."""
    with _stderr_lock:
        sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def keep_freed_memory(*, large_blocks: bool = True) -> bool:
    """Tells the C library (glibc, Linux) to keep freed memory for the process instead of handing it back at once.

    XLA:CPU allocates the activations of every call anew, and glibc maps each large block from the kernel and unmaps it
    when freed: a page fault every 4 KB, every call, 15 to 20 % of the time of a training step (experiments/README.md).
    The process holds what it has needed until it ends, and more where something small comes to lie in the place of a
    large block, so that the next one needs another place: 4K results of isr-lite-x2 took 0.54 to 1.1 GiB with large
    blocks kept, 0.52 to 0.54 without, in the same time.

    Args:
      large_blocks: Whether those from `LARGE_BLOCK` on are kept, too.
    Returns: Whether it took effect; elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    # M_ARENA_MAX 1: one heap for all threads (others hold 64 MB at most); M_TRIM_THRESHOLD -1: never shrink it;
    # M_MMAP_MAX 0: no block outside it, or M_MMAP_THRESHOLD: none but those from a size on.
    outside = (-4, 0) if large_blocks else (-3, LARGE_BLOCK)
    return all(bool(mallopt(option, value)) for option, value in ((-8, 1), (-1, -1), outside))


def process_began() -> float:
    """Returns when this process started, on the clock of `time.monotonic`; where it cannot be told, now."""
    now = time.monotonic()
    try:
        # Field 22 of /proc/self/stat, in clock ticks since the machine started; the name in field 2 may hold spaces.
        ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux
        return now
    return now - age if ticks > 0 and age > 0 else now
