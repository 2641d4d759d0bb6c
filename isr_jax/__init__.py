"""isr_jax: unrolled single-image super-resolution in JAX.

model = isr_jax.load("run_or_file")
sr = model.upscale(image)           # an array (floating point: 0..255 unless said), a Pillow image or a path
isr_jax.run_benchmark([model, "bicubic"], "Set5").rows

print(isr_jax.estimate_degradation("photo.jpg", scale=4))           # blur 0.7 px, noise 0.4, JPEG 75 (4:2:0)

run = isr_jax.fit(config, "run")    # train, or go on with a run: isr_jax.config says what a configuration is

physics = isr_jax.Decimation(2) @ isr_jax.Blur(kernel)             # y = H x + n; or a subclass of isr_jax.Physics
sr = model.upscale(image, physics=physics)
x = isr_jax.half_quadratic_splitting(physics, y, isr_jax.Denoiser(f), noise_std=2.55)     # any denoiser, no training
"""

import importlib

TYPE_CHECKING = False  # type checkers take it for true; typing, which has one, costs more time than all of this

if TYPE_CHECKING:
    from isr_jax import config as config
    from isr_jax.benchmark.benchmark import run_benchmark as run_benchmark
    from isr_jax.config import ConfigError as ConfigError
    from isr_jax.config import UserError as UserError
    from isr_jax.inference.estimate import Estimate as Estimate
    from isr_jax.inference.estimate import estimate_degradation as estimate_degradation
    from isr_jax.inference.upscaler import Upscaler as Upscaler
    from isr_jax.inference.upscaler import load as load
    from isr_jax.models.description import list_models as list_models
    from isr_jax.physics.blur import Blur as Blur
    from isr_jax.physics.check import check_physics as check_physics
    from isr_jax.physics.jpeg import Jpeg as Jpeg
    from isr_jax.physics.masking import Mask as Mask
    from isr_jax.physics.masking import Mosaic as Mosaic
    from isr_jax.physics.physics import Physics as Physics
    from isr_jax.physics.sampling import Bicubic as Bicubic
    from isr_jax.physics.sampling import BoxAverage as BoxAverage
    from isr_jax.physics.sampling import Decimation as Decimation
    from isr_jax.physics.sampling import Identity as Identity
    from isr_jax.physics.sampling import Resize as Resize
    from isr_jax.pictures.images import read_image as read_image
    from isr_jax.pictures.images import write_image as write_image
    from isr_jax.pictures.metrics import psnr as psnr
    from isr_jax.pictures.metrics import ssim as ssim
    from isr_jax.pictures.picture import Picture as Picture
    from isr_jax.solver.data_step import ClosedForm as ClosedForm
    from isr_jax.solver.data_step import ConjugateGradient as ConjugateGradient
    from isr_jax.solver.data_step import Gradient as Gradient
    from isr_jax.solver.denoiser import Denoiser as Denoiser
    from isr_jax.solver.erd import ERD as ERD
    from isr_jax.solver.plug_and_play import half_quadratic_splitting as half_quadratic_splitting
    from isr_jax.solver.plug_and_play import proximal_gradient as proximal_gradient
    from isr_jax.training.loop import fit as fit

    __version__: str

_HOMES = {
    "benchmark.benchmark": "run_benchmark",
    "config": "ConfigError UserError",
    "inference.estimate": "Estimate estimate_degradation",
    "inference.upscaler": "Upscaler load",
    "models.description": "list_models",
    "physics.blur": "Blur",
    "physics.check": "check_physics",
    "physics.jpeg": "Jpeg",
    "physics.masking": "Mask Mosaic",
    "physics.physics": "Physics",
    "physics.sampling": "Bicubic BoxAverage Decimation Identity Resize",
    "pictures.images": "read_image write_image",
    "pictures.metrics": "psnr ssim",
    "pictures.picture": "Picture",
    "solver.data_step": "ClosedForm ConjugateGradient Gradient",
    "solver.denoiser": "Denoiser",
    "solver.erd": "ERD",
    "solver.plug_and_play": "half_quadratic_splitting proximal_gradient",
    "training.loop": "fit",
}
_HOME_OF = {name: f"isr_jax.{home}" for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "ERD",
    "Bicubic",
    "Blur",
    "BoxAverage",
    "ClosedForm",
    "ConfigError",
    "ConjugateGradient",
    "Decimation",
    "Denoiser",
    "Estimate",
    "Gradient",
    "Identity",
    "Jpeg",
    "Mask",
    "Mosaic",
    "Physics",
    "Picture",
    "Resize",
    "Upscaler",
    "UserError",
    "check_physics",
    "estimate_degradation",
    "fit",
    "half_quadratic_splitting",
    "list_models",
    "load",
    "proximal_gradient",
    "psnr",
    "read_image",
    "run_benchmark",
    "ssim",
    "write_image",
]


def _get(name: str) -> object:
    """Imports JAX only when something that needs it is asked for, so that --help answers at once."""
    if name == "__version__":
        return importlib.import_module("isr_jax.version").package_version()
    if name == "config":
        return importlib.import_module("isr_jax.config")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


if not TYPE_CHECKING:  # which would take any name for one of ours
    __getattr__ = _get


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__", "config"})
