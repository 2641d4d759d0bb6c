"""isr_jax: unrolled single-image super-resolution in JAX.

model = isr_jax.load("run_or_file")
sr = model.upscale(image)           # an array (floating point: 0..255 unless said), a Pillow image or a path
isr_jax.run_benchmark([model, "bicubic"], "Set5").rows

run = isr_jax.fit(config, "run")    # train, or go on with a run: isr_jax.config says what a configuration is
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isr_jax.benchmark.benchmark import run_benchmark as run_benchmark
    from isr_jax.inference.upscaler import load as load
    from isr_jax.training.loop import fit as fit

__all__ = ["fit", "load", "run_benchmark"]

_HOMES = {
    "fit": "isr_jax.training.loop",
    "load": "isr_jax.inference.upscaler",
    "run_benchmark": "isr_jax.benchmark.benchmark",
}


def __getattr__(name: str) -> Any:
    """Imports JAX only when a model is asked for, so that --help answers at once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
