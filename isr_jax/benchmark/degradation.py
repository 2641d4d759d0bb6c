"""A camera of one's own to test models by: how LR pictures are made of HR ones, y = JPEG(round(S (k * x) + n)).

On a command line "blur=1.6,noise=5,jpeg=75": see `Degradation.parse`. The physics is the very object that models are
told.
"""

import hashlib
import io
import math
import re
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from isr_jax.config import ConfigError
from isr_jax.config.names import source_digest
from isr_jax.pictures.metrics import round_to_8_bits
from isr_jax.pictures.pairs import Dataset, digest_of_pairs

_CHOICES = {
    "sampling": ("decimation", "bicubic", "box"),
    "rounding": ("round", "floor", "none"),
    "border": ("symmetric", "periodic"),
}
_SPELLING = {"noise_std": "noise"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Degradation:
    """How LR pictures come from HR pictures, with noise that is the same each time."""

    blur: Any = None
    """What a point becomes: a standard deviation in HR pixels; (std, std, angle in degrees); a kernel (k, k) or
    (k, k, C); or any of those as `read_blur` reads it, as "kernel.png"."""
    noise_std: float | int = 0.0
    """Level of white Gaussian noise on the 0..255 scale."""
    jpeg: float | int | None = None
    """Quality, 1 to 100, of the JPEG files (4:2:0, Pillow's) that LR pictures are stored in; None: they are not."""
    sampling: str = ""
    """"decimation", the first pixel of each block; "bicubic", MATLAB's reduction; "box", a block's average; or a
    physics of one's own as "my_package.camera:Camera". By default decimation behind a blur, else bicubic."""
    rounding: str = "round"
    """"round": to 8 bits with the noise, as in a file; "floor": cut off before the noise, as arithmetic on 8 bits does;
    "none". LR pictures are floating point where they are not whole numbers."""
    border: str = "symmetric"
    """What the blur finds outside the picture: its mirror image, as is usual for photographs, or the picture again
    ("periodic"), as Fourier transforms have it and experiments/known_blur.py."""

    def __post_init__(self) -> None:
        """Checks all values, and reads the kernel.

        Raises:
          ConfigError: If one cannot be used.
        """
        object.__setattr__(self, "sampling", self.sampling or ("bicubic" if self.blur is None else "decimation"))
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices and not (name == "sampling" and ":" in value):
                own = ", or your own as module:Name" if name == "sampling" else ""
                raise ConfigError(f"`degradation` has {name}={value}; choose {' or '.join(choices)}{own}")
        if not 0 <= self.noise_std < math.inf:
            raise ConfigError(f"`degradation` has noise={self.noise_std}; it is a level on the 0..255 scale, 0 or more")
        if self.jpeg is not None and not (1 <= self.jpeg <= 100 and self.jpeg == int(self.jpeg)):
            raise ConfigError(f"`degradation` has jpeg={self.jpeg}; it is a whole quality, 1 to 100")
        if self.jpeg is not None and self.rounding == "none":
            raise ConfigError("`degradation` has jpeg and rounding=none; a file holds whole numbers")
        _ = self._kernel

    @classmethod
    def parse(cls, text: str) -> "Degradation":
        """Reads "blur=1.6,0.8,30,noise=5,jpeg=75,sampling=bicubic,border=periodic" and "rounding=none", each part once.

        Raises:
          ConfigError: If it is not that.
        """
        known = [_SPELLING.get(field.name, field.name) for field in fields(cls)]
        values: dict[str, Any] = {}
        for part in re.split(r",\s*(?=[^,=]*=)", text.strip()):  # a comma may also stand within a value
            key, equals, value = (word.strip() for word in part.partition("="))
            if not equals or not value or key not in known:
                raise ConfigError(
                    f"`degradation` has {part!r}; write {'=..., '.join(known)}=..., such as blur=1.6,noise=5"
                )
            if key in values:
                raise ConfigError(f"`degradation` has {key} twice")
            values[key] = value
        for key, name, what in (("noise", "noise_std", "the level on 0..255"), ("jpeg", "jpeg", "a quality")):
            if (text := values.pop(key, None)) is not None:
                try:
                    values[name] = float(text)
                except ValueError:
                    raise ConfigError(f"`degradation` has {key}={text}; it is a number, {what}") from None
        return cls(**values)

    def __str__(self) -> str:
        """Spells it as `parse` reads it, every part named; of a kernel in memory its size is told."""
        if isinstance(self.blur, list | tuple) and all(isinstance(n, int | float) for n in self.blur):
            blur = ",".join(f"{n:g}" for n in self.blur)
        else:
            blur = "kernel of {}x{}".format(*np.shape(self.blur)[:2]) if np.ndim(self.blur) > 1 else self.blur
        jpeg = None if self.jpeg is None else f"{self.jpeg:g}"
        values = {"blur": blur, "noise": f"{self.noise_std:g}", "jpeg": jpeg}
        values |= {name: getattr(self, name) for name in _CHOICES}
        return ",".join(f"{name}={value}" for name, value in values.items() if value is not None)

    def digest(self) -> str:
        """Returns a hash of all that it does: its values, the numbers of its kernel, the module of a sampling's own."""
        values = [
            f"{self.noise_std:g}",
            *([] if self.jpeg is None else [f"jpeg {self.jpeg:g}"]),
            *(getattr(self, name) for name in _CHOICES),
        ]
        digest = hashlib.sha256("|".join(values).encode())
        if self._kernel is not None:
            digest.update(np.asarray(self._kernel).tobytes())
        if ":" in self.sampling:
            digest.update(source_digest(self.sampling).encode())
        return digest.hexdigest()

    def told(self, blur: Any) -> "Degradation":
        """Returns the same with another blur: what models take for the truth."""
        return replace(self, blur=blur)

    @cached_property
    def _kernel(self) -> Any:
        if self.blur is None:
            return None
        # Here, because the bicubic baseline needs no JAX.
        from isr_jax.inference.conditions import blur_kernels
        from isr_jax.inference.kernels import read_blur

        try:
            return blur_kernels(read_blur(self.blur) if isinstance(self.blur, str) else self.blur, color=True)
        except ConfigError as error:
            raise ConfigError(f"`degradation`: {str(error).replace('`blur`', 'blur')}") from None

    def physics(self, scale: int) -> Any:
        """Returns H of a scale, a `Physics`, which knows of the JPEG file.

        Raises:
          ConfigError: If a sampling of one's own is no physics of that scale.
        """
        from isr_jax.physics.blur import Blur
        from isr_jax.physics.jpeg import Jpeg
        from isr_jax.physics.names import make_physics

        sampling = make_physics(self.sampling, scale=scale, field="sampling of `degradation`")
        border: Any = self.border
        physics = sampling if self._kernel is None else sampling @ Blur(self._kernel, border)
        return physics if self.jpeg is None else Jpeg(self.jpeg) @ physics

    def apply(
        self, hr: UInt8[np.ndarray, "height width channels"], scale: int, *, noisy: bool = True
    ) -> Shaped[np.ndarray, "lr_height lr_width channels"]:
        """Returns the LR picture.

        Args:
          hr: Its sides are multiples of the scale.
          scale: HR size over LR size.
          noisy: Whether the noise is added (for each picture anew the numbers of NumPy's legacy generator with the seed
            0, which never change), and the file compressed.
        Returns: uint8, or float32 on 0..255 where the values are not whole.
        Raises:
          ConfigError: If the kernel is larger than the picture.
        """
        import jax.numpy as jnp

        y = np.asarray(self.physics(scale).apply(jnp.asarray(hr[None], jnp.float32)))[0]
        if self.rounding == "floor":
            y = np.clip(np.floor(y + 1e-3), 0, 255)  # what is whole but for float32 stays whole
        noise_std = self.noise_std if noisy else 0
        if noise_std:
            y = y + np.random.RandomState(0).normal(0, noise_std, y.shape)
        whole = self.rounding == "round" or (self.rounding == "floor" and not noise_std)
        if not whole and (self.jpeg is None or not noisy):
            return y.astype(np.float32)
        y = round_to_8_bits(y)
        return y if self.jpeg is None or not noisy else _stored(y, int(self.jpeg))

    def degrade(self, dataset: Dataset) -> Dataset:
        """Returns a dataset with LR pictures made of its HR ones."""
        pairs = tuple(replace(pair, lr=self.apply(pair.hr, dataset.scale)) for pair in dataset.pairs)
        return replace(dataset, pairs=pairs, lr_source="degradation", sha256=digest_of_pairs(pairs))


def _stored(
    pixels: UInt8[np.ndarray, "height width channels"], quality: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Returns what comes back from a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(pixels.shape)
