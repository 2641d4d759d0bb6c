"""What all tests share: checked shapes, and the folder of reference data."""

import atexit
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

# jaxtyping's hook has all that is imported while it loads a module compiled anew: what is not ours comes before it.
import flax.nnx  # noqa: F401
import jax
import jaxtyping
import optax  # noqa: F401
import orbax.checkpoint  # noqa: F401
import pytest
import scipy.ndimage  # noqa: F401

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # tensorflow's start-up notes are not ours to read

# A shell's background job ignores SIGINT, and so would the processes that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Most of the suite's time is XLA's, compiling what runs once. Commands and notebooks that the tests start compile as
# users' do, and so does this process where the variable says 0.
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
    jax.config.update("jax_disable_most_optimizations", True)

# What several tests of this process compile alike is compiled once. The folder is its own, for JAX does not write there
# beside and rename: a process that is killed, as tests do, would leave half a program to the others.
compiled = tempfile.mkdtemp(prefix="isr-jax-tests-")
atexit.register(shutil.rmtree, compiled, ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", compiled)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# Has to come before the first import of isr_jax: every annotated shape and type is checked at each call.
jaxtyping.install_import_hook("isr_jax", "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first: workers take file after file, and none is to end with a long one."""
    items.sort(key=lambda item: (-item.path.stat().st_size, item.path))


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Switches the checks of annotations off, for a test of the errors that the functions themselves raise."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of golden files and benchmark pictures beside the project (or at $ISR_JAX_SHARED); skips where absent."""
    path = Path(os.environ.get("ISR_JAX_SHARED") or Path(__file__).parents[2] / "shared")
    if not path.is_dir():
        pytest.skip(f"needs the reference data, which is not at {path}; set ISR_JAX_SHARED to where it is")
    return path


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    """So that what was never awaited is not found in the tests of another file."""
    yield
    gc.collect()
