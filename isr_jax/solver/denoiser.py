"""Any denoiser as the prior of the solver: plug and play, without training."""

from collections.abc import Callable
from typing import Any

from flax import nnx
from jaxtyping import Array, Float


class Denoiser(nnx.Module):
    """A prior made of a function f(x, noise_std) -> x on pictures (N, H, W, C), 0..255.

    noise_std is (N, 1, 1, 1), one level a picture on the same scale, so that it broadcasts. The function is traced: one
    that is not JAX's goes through `jax.pure_callback`; a network with parameters is handed over as an `nnx.Module`.

    Args:
      denoise: The function.
    References: Venkatakrishnan, Bouman & Wohlberg 2013, Plug-and-play priors for model based reconstruction.
    Examples:
      >>> prior = isr_jax.Denoiser(lambda x, noise_std: x / (1 + (noise_std / 100) ** 2))
      >>> noise, _ = prior(jnp.full((1, 2, 2, 1), 10.0), noise_std=jnp.array([100.0]))
      >>> float(noise[0, 0, 0, 0])
      5.0
    """

    uses_noise_std = True
    reach = None
    """How far the function sees is not known."""
    features_per_lr_pixel = 64

    def __init__(self, denoise: Callable[[Array, Array], Array]):
        self.denoise = denoise

    def macs_per_pixel(self, scale: int) -> float:
        """Returns 0: what the function costs is not known, either."""
        del scale
        return 0.0

    def init_carry(self, lr_shape: tuple[Any, ...]) -> None:
        """Hands nothing on."""

    def __call__(
        self,
        image: Float[Array, "batch height width channels"],
        lr_residual: Any = None,
        noise_std: Float[Array, " batch"] | None = None,
        carried: Any = None,
    ) -> tuple[Float[Array, "batch height width channels"], None]:
        """Returns what the denoiser takes away, and nothing to carry.

        Raises:
          ValueError: If the denoiser returns another shape, or the noise level is missing.
        """
        if noise_std is None:
            raise ValueError("a denoiser needs `noise_std`, a level for each picture")
        clean = self.denoise(image, noise_std[:, None, None, None])
        if getattr(clean, "shape", None) != image.shape:
            made = f"pictures of shape {clean.shape}" if hasattr(clean, "shape") else type(clean).__name__
            raise ValueError(f"the denoiser makes {made} of pictures of shape {image.shape}")
        return image - clean, None
