"""How training pictures are degraded: a distribution over physics."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from isr_jax.config.checks import Config, ConfigError, Count, Fraction, NotNegative, Positive, Within
from isr_jax.config.names import check_name

Quality = Annotated[float, Within(1, 100)]

SYNTHESIS_REMOVED = (
    'is data.degradation now: DegradationConfig(gaussian=1, gaussian_std=..., anisotropic=..., sampling="bicubic", '
    "noise_std=..., jpeg_quality=...); without a blur, bicubic=1 instead"
)
"""What to tell whoever writes data.synthesis, which was Gaussian blur, bicubic reduction, noise and JPEG."""


@dataclass(frozen=True, kw_only=True)
class DegradationConfig(Config):
    """A mixture of blurs, drawn for each patch by their weights, then sampling, noise and JPEG; inactive by default.

    Examples:
      >>> from isr_jax.config import DegradationConfig
      >>> DegradationConfig(gaussian=3.0, motion=1.0, noise_std=(0.0, 10.0)).active
      True
    """

    group: ClassVar[str] = "data.degradation."

    bicubic: NotNegative = 0.0
    """Weight of MATLAB's bicubic reduction alone."""
    gaussian: NotNegative = 0.0
    """Weight of Gaussian blurs."""
    motion: NotNegative = 0.0
    """Weight of motion blurs: random trajectories of a camera."""
    measured: NotNegative = 0.0
    """Weight of the kernels in `kernels`."""
    box: NotNegative = 0.0
    """Weight of averages over scale x scale pixels: a camera's larger pixel."""
    gaussian_std: tuple[Positive, Positive] = (0.2, 4.0)
    """Range of the standard deviations of the Gaussian blurs, HR pixels."""
    anisotropic: bool = True
    """Whether Gaussian blurs have two standard deviations and a direction."""
    motion_length: tuple[Positive, Positive] = (6.0, 45.0)
    """Range of the lengths of the trajectories, HR pixels; those that would leave the kernel are made smaller."""
    kernels: str = ""
    """File (.npz or .npy) of measured kernels (N, k, k) or (k, k), for `measured`."""
    kernel_size: Count = 25
    """Side of all kernels, HR pixels, odd."""
    sampling: Literal["decimation", "bicubic"] = "decimation"
    """What follows the blur: every scale-th pixel, or MATLAB's bicubic reduction (`bicubic` is then no blur at all)."""
    noise_free: Fraction = 0.0
    """Share of the patches without noise."""
    noise_std: tuple[NotNegative, NotNegative] = (0.0, 0.0)
    """Range of the level of white noise of the others, on the 0..255 scale."""
    jpeg_free: Fraction = 0.0
    """Share of the patches that are not compressed."""
    jpeg_quality: tuple[Quality, Quality] | None = None
    """Range of the quality at which the other LR patches are compressed; None: none is."""
    jpeg_subsampled: Fraction = 0.0
    """Share of these whose chroma is stored for 2x2 pixels at once (4:2:0)."""
    rounding: Literal["round", "floor", "none"] = "round"
    """Of the LR patches to 8 bits: with their noise, as in a file; or before it, cut off, as arithmetic on 8 bits
    does; or not at all."""
    border: Literal["margin", "symmetric", "periodic"] = "margin"
    """What lies beyond a patch: the picture, cut off after the reduction, so that borders look as in a photograph; or
    what the solver's physics is told: the patch's mirror image, or the patch again."""
    told: str = "physics"
    """What the solver is told: the very physics of each patch, quality and all, or one for all by its name, as
    "bicubic"."""
    told_error: NotNegative = 0.0
    """Largest error of the Gaussian blurs' widths in what the solver is told, LR pixels, 0.1 say: for a model that is
    to bear widths that are estimated. It is one of the width that an LR picture shows, sqrt(width^2 + 1/4), for its
    pixels have a width, too: the narrower the blur the larger its error, as with estimates."""
    told_noise: bool = True
    """Whether the solver is told the noise level of each patch; else it estimates it, if it needs it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gaussian_std", "noise_std", "motion_length", "jpeg_quality"):
            ends = getattr(self, name)
            if ends is not None and ends[0] > ends[1]:
                raise ConfigError(f"data.degradation.{name} is {ends}; it must be a range, the smaller value first")
        if self.kernel_size % 2 == 0:
            raise ConfigError(f"data.degradation.kernel_size is {self.kernel_size}; choose an odd number")
        if bool(self.measured) != bool(self.kernels):
            raise ConfigError("data.degradation.measured and .kernels go together: give a weight and a file")
        if self.motion and self.kernel_size < 7:
            raise ConfigError(f"data.degradation.kernel_size is {self.kernel_size}; motion needs at least 7")
        if self.told in ("blur", "released_kernel"):
            raise ConfigError(
                f'data.degradation.told is {self.told!r}, which needs a kernel; "physics" tells each its own'
            )
        if self.told != "physics" and self.told_error:
            raise ConfigError(f'data.degradation.told_error needs .told="physics", not {self.told!r}')
        if self.told != "physics":
            check_name(self.told, "isr_jax.physics.names", "data.degradation.told")
        if not self.weight and (self.noise_std[1] or self.jpeg_quality):
            raise ConfigError("data.degradation has noise or JPEG but no physics: give .bicubic=1, or another weight")

    @property
    def weight(self) -> float:
        """The sum of the weights."""
        return self.bicubic + self.gaussian + self.motion + self.measured + self.box

    @property
    def active(self) -> bool:
        """Whether LR patches are made in the step, instead of cut from the LR pictures."""
        return self.weight > 0

    def margin(self, scale: int) -> int:
        """Returns by how many LR pixels to each side more of the picture is drawn than a patch holds."""
        if not self.active or self.border != "margin":
            return 0
        return math.ceil(self.kernel_size // 2 / scale) + (2 if self.sampling == "bicubic" else 0)
