r"""Random physics for training: what made a patch is the very object that the solver inverts.

    y = JPEG(round(S (k * x) + n)),   k drawn from a mixture, S the decimation or MATLAB's bicubic reduction

Every kind of blur is a kernel of one size, so one compiled step serves the mixture: MATLAB's reduction and a camera's
pixel, too, are a kernel and a decimation. Draws depend on the key of the patch alone. Blurs of motion, too, are drawn
in the step, a tenth of a millisecond a patch: no two are the same, and the compiled program holds no bank of them.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from isr_jax.config import ConfigError, DegradationConfig
from isr_jax.physics.blur import Blur
from isr_jax.physics.fourier import EquivalentBlur
from isr_jax.physics.jpeg import Jpeg, compress_jpeg
from isr_jax.physics.kernels import as_kernels, gaussian_kernel, motion_kernel, pad_kernels
from isr_jax.physics.names import make_physics
from isr_jax.physics.physics import Images, Physics
from isr_jax.physics.sampling import Bicubic, BoxAverage, Decimation


class Degraded(NamedTuple):
    """LR patches and what is known of them."""

    lr: Images
    """0..255."""
    physics: Physics | None
    """What the solver is to be told; None: its own."""
    noise_std: Float[Array, " batch"] | None
    """Levels to be told."""


class Degradations:
    """The distribution that a configuration describes, for one scale."""

    def __init__(self, config: DegradationConfig, scale: int, *, drawn_scale: int | None = None):
        """Makes the kernels that are drawn from where they are not drawn themselves.

        Args:
          config: The distribution.
          scale: HR size over LR size.
          drawn_scale: A multiple of it, whose margin pictures are cut with; by default `scale`.
        Raises:
          ConfigError: If the file of measured kernels cannot be used, or a kernel does not fit `config.kernel_size`.
        """
        self.config, self.scale, size = config, scale, config.kernel_size
        drawn_scale = drawn_scale or scale
        self._margin = config.margin(drawn_scale) * drawn_scale // scale
        kinds = ("bicubic", "box", "gaussian", "motion", "measured")
        self._weights = {kind: weight for kind in kinds if (weight := getattr(config, kind))}
        self._banks: dict[str, np.ndarray] = {}
        if config.bicubic:
            after = config.sampling == "bicubic"
            self._banks["bicubic"] = _one_size((Decimation(1) if after else Bicubic(scale)).as_blur(), size)[None]
        if config.box:
            self._banks["box"] = _one_size(BoxAverage(scale).as_blur(), size)[None]
        if config.measured:
            self._banks["measured"] = _read_kernels(config.kernels, size)

    def __call__(self, hr: Images, keys: Array) -> Degraded:
        """Degrades HR pictures, cut with the margin that the configuration asks for, each by its own key; inside jit.

        Args:
          hr: 0..255; sides are multiples of the scale.
          keys: One a picture.
        """
        config, margin = self.config, self._margin
        kernel_keys, noise_keys, level_keys, quality_keys = jnp.moveaxis(
            jax.vmap(lambda k: jax.random.split(k, 4))(keys), 1, 0
        )
        kernels = jax.vmap(self._kernel)(kernel_keys)[..., None]
        sample = Bicubic(self.scale) if config.sampling == "bicubic" else Decimation(self.scale)
        border = "periodic" if config.border == "periodic" else "symmetric"
        told = physics = sample @ Blur(kernels, border)
        if config.told_error:
            draw = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 2), minval=-1.0, maxval=1.0))
            kernels = jax.vmap(self._kernel)(kernel_keys, config.told_error * self.scale * draw(kernel_keys))[..., None]
            told = sample @ Blur(kernels, border)
        y = physics.apply(hr)
        y = y[:, margin : y.shape[1] - margin, margin : y.shape[2] - margin]
        if config.rounding == "floor":
            y = jnp.clip(jnp.floor(y + 1e-3), 0, 255)  # what is whole but for float32 stays whole
        noise_std = jax.vmap(self._noise_std)(level_keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, y.shape[1:]))(noise_keys)
        y = y + noise_std[:, None, None, None] * noise
        if config.rounding == "round":
            y = jnp.clip(jnp.round(y), 0, 255)
        if config.jpeg_quality is not None:
            y, quality = jax.vmap(self._compress)(y, quality_keys)
            told = Jpeg(quality) @ told
        if config.told != "physics":
            told = make_physics(config.told, scale=self.scale)
        return Degraded(y, told, noise_std if config.told_noise else None)

    def crop(self, hr: Images) -> Images:
        """Returns of pictures cut with a margin what their LR pictures show."""
        margin = self._margin * self.scale
        return hr[:, margin : hr.shape[1] - margin, margin : hr.shape[2] - margin]

    def _kernel(self, key: Array, error: Array | None = None) -> Float[Array, "size size"]:
        """Returns the kernel of a key, a Gaussian wider by `error` HR pixels as an LR picture shows it."""
        kind_key, key = jax.random.split(key)
        kernels = jnp.stack([self._draw(kind, key, error) for kind in self._weights])
        return jax.random.choice(
            kind_key, kernels, p=jnp.array([*self._weights.values()]) / sum(self._weights.values())
        )

    def _draw(self, kind: str, key: Array, error: Array | None) -> Float[Array, "size size"]:
        config, size = self.config, self.config.kernel_size
        if kind == "gaussian":
            std_key, angle_key = jax.random.split(key)
            low, high = config.gaussian_std
            std = jax.random.uniform(std_key, (2,), minval=low, maxval=high)
            if error is not None:
                shown = jnp.hypot(std, self.scale / 2) + error
                std = jnp.sqrt(jnp.maximum(shown**2 - self.scale**2 / 4, 0))
            std = std if config.anisotropic else std[:1].repeat(2)
            return gaussian_kernel(std, jax.random.uniform(angle_key, maxval=jnp.pi), size // 2)
        if kind == "motion":
            return motion_kernel(key, size, config.motion_length)
        return jax.random.choice(key, jnp.asarray(self._banks[kind], jnp.float32))

    def _noise_std(self, key: Array) -> Float[Array, ""]:
        free_key, level_key = jax.random.split(key)
        low, high = self.config.noise_std
        level = jax.random.uniform(level_key, minval=low, maxval=high)
        return jnp.where(jax.random.bernoulli(free_key, self.config.noise_free), 0.0, level)

    def _compress(self, y: Array, key: Array) -> tuple[Array, Array]:
        """Returns a patch compressed or not, and the quality, infinite if not."""
        assert self.config.jpeg_quality is not None
        free_key, quality_key = jax.random.split(key)
        low, high = self.config.jpeg_quality
        quality = jax.random.uniform(quality_key, minval=low, maxval=high)
        share = self.config.jpeg_subsampled
        subsampled = jax.random.bernoulli(jax.random.fold_in(key, 2), share) if share else False
        compressed = compress_jpeg(jnp.clip(jnp.round(y), 0, 255), quality, subsampled=subsampled)
        free = jax.random.bernoulli(free_key, self.config.jpeg_free)
        return jnp.where(free, y, compressed), jnp.where(free, jnp.inf, quality)


def _one_size(blur: EquivalentBlur | None, size: int) -> np.ndarray:
    """Returns the kernel on `size` x `size` pixels, moved so that the decimation starts at the first pixel."""
    assert blur is not None
    kernel = np.asarray(blur.kernel[0, ..., 0])
    (rows, cols), (row, col) = kernel.shape, blur.phase
    top, left = size // 2 - row - rows // 2, size // 2 - col - cols // 2
    if min(top, left) < 0 or max(top + rows, left + cols) > size:
        raise ConfigError(f"data.degradation.kernel_size is {size}; the reductions need {rows + 2 * max(row, col) + 1}")
    placed = np.zeros((size, size), np.float32)
    placed[top : top + rows, left : left + cols] = kernel
    return placed


def _read_kernels(file: str, size: int) -> np.ndarray:
    try:
        loaded: Any = np.load(Path(file), allow_pickle=False)
        arrays = [loaded[name] for name in loaded.files] if hasattr(loaded, "files") else [loaded]
        kernels = [kernel for array in arrays for kernel in (array if array.ndim == 3 else array[None])]
        as_kernels(np.stack(kernels) if len({k.shape for k in kernels}) == 1 else kernels)
    except ConfigError as error:
        raise ConfigError(f"data.degradation.kernels, {file}: {error}") from None
    except Exception as error:  # of damaged files numpy raises nearly everything
        raise ConfigError(f"data.degradation.kernels, {file}: cannot be read ({type(error).__name__})") from None
    try:
        return pad_kernels([k / k.sum() for k in kernels], size).astype(np.float32)
    except ConfigError as error:
        raise ConfigError(f"data.degradation.kernels, {file}: {error}; see data.degradation.kernel_size") from None
