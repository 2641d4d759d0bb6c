"""What XLA is told about programs of a network."""

import functools
from pathlib import Path

import jax
from jaxlib import version

from isr_jax.config import ERDConfig, ModelConfig

# Since the version that was measured; others may not know the option, and then refuse to compile.
_SINCE = (0, 12)


def compiler_options(model: ModelConfig) -> dict[str, str]:
    """Returns the `compiler_options` of `jax.jit` for a model's programs.

    On CPUs with AVX-512, networks at LR resolution have their convolutions computed by YNNPACK, whose kernels use it
    where those of XLA:CPU stop at AVX2: a training step of isr-lite takes a tenth less time (experiments/README.md). At
    HR resolution, where maps are large and kernels 5x5, they are slower.
    """
    at_lr = isinstance(model.prior, ERDConfig) and model.prior.resolution == "lr"
    if not at_lr or jax.default_backend() != "cpu" or not _ynnpack():
        return {}
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


@functools.cache
def _ynnpack() -> bool:
    if tuple(int(n) for n in version.__version__.split(".")[:2]) < _SINCE:
        return False
    try:
        return " avx512f " in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False
