"""A prior: ModelConfig(prior=OneLayerConfig(width=3))."""

from dataclasses import dataclass
from typing import ClassVar

from flax import nnx

from isr_jax.config import PriorConfig


@dataclass(frozen=True, kw_only=True)
class OneLayerConfig(PriorConfig):
    """One convolution on HR pixels."""

    implementation: ClassVar[str] = "own_parts.prior:OneLayer"

    width: int = 3
    """Of its kernel."""


class OneLayer(nnx.Module):
    """What a stage removes, as one convolution sees it."""

    uses_noise_std = False

    def __init__(self, config: OneLayerConfig, *, channels: int, scale: int, rngs: nnx.Rngs):
        self.width, self.channels, self.scale = config.width, channels, scale
        zeros = nnx.initializers.zeros
        self.layer = nnx.Conv(channels, channels, (config.width, config.width), kernel_init=zeros, rngs=rngs)

    @property
    def reach(self) -> int:
        return -(-(self.width // 2) // self.scale)

    @property
    def features_per_lr_pixel(self) -> int:
        return self.channels * self.scale**2

    def macs_per_pixel(self, scale: int) -> float:
        return float(self.width**2 * self.channels**2)

    def init_carry(self, lr_shape):
        return None

    def __call__(self, image, lr_residual=None, noise_std=None, carried=None):
        return self.layer(image), None
