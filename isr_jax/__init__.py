"""isr_jax: unrolled single-image super-resolution in JAX.

model = isr_jax.load("run_or_file")
sr = model.upscale(image)           # an array (floating point: 0..255 unless said), a Pillow image or a path
isr_jax.run_benchmark([model, "bicubic"], "Set5").rows
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isr_jax.benchmark.benchmark import run_benchmark as run_benchmark
    from isr_jax.inference.upscaler import load as load

__all__ = ["load", "run_benchmark"]


def __getattr__(name: str) -> Any:
    """Imports JAX only when a model is asked for, so that --help answers at once."""
    if name == "load":
        from isr_jax.inference.upscaler import load

        return load
    if name == "run_benchmark":
        from isr_jax.benchmark.benchmark import run_benchmark

        return run_benchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
