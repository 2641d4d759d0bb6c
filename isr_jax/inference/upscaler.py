"""Running a model: pictures of any kind in, pictures out, with few compilations.

A program is compiled once per LR shape and kept; batches of one shape share it, and all local devices share the batch.
"""

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Shaped

from isr_jax.config import ConfigError, ModelConfig, UserError
from isr_jax.models.model_file import load_model
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import Picture, fill_transparent, scaled_picture
from isr_jax.solver.unrolled import ISRResCNet

MAX_BATCH_PIXELS = 2**19
"""HR pixels that one batch may have: activations of the largest models take 1 kB and more for each."""

TILE = 320
"""Side of the windows, in LR pixels, in which large pictures are worked on where that is exact."""

MAX_PROGRAMS = 64
"""Compiled programs that are kept, one per shape; the oldest goes first."""

_TILED_DATA_TERMS = ("matlab_bicubic", "blur", "decimation", "none")
_FIXED_PHASE_DATA_TERMS = ("blur", "decimation", "released_kernel", "released_decimation")

LRImages = Shaped[np.ndarray, "batch height width channels"]
HRImages = Float[np.ndarray, "*stages batch hr_height hr_width channels"]


def load(
    model: str | os.PathLike,
    *,
    ensemble: bool = False,
    num_stages: int | None = None,
    kernel: Float[np.ndarray, "rows cols *channels"] | None = None,
    noise_std: float | int | None = None,
    batch_size: int = 16,
) -> "Upscaler":
    """Loads a model, ready to run; the arguments are those of `Upscaler`.

    Args:
      model: A shipped name, a model file, or a run folder.
    Raises:
      ConfigError: If there is no such model, or an option does not fit it.
      UserError: If the file is damaged.
    """
    return Upscaler(
        load_model(model),
        name=str(model),
        ensemble=ensemble,
        num_stages=num_stages,
        kernel=kernel,
        noise_std=noise_std,
        batch_size=batch_size,
    )


def read_kernel(path: Path) -> Float[np.ndarray, "rows cols *channels"]:
    """Reads a blur kernel from an .npy file.

    Raises:
      ConfigError: If there is none, or it is not an array of numbers (k, k) or (k, k, channels).
    """
    try:
        kernel = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not an .npy file"
        raise ConfigError(f"--kernel {path}: {reason}; save the kernel with numpy.save") from error
    if not isinstance(kernel, np.ndarray) or kernel.dtype.kind not in "fiu" or kernel.ndim not in (2, 3):
        raise ConfigError(f"--kernel {path}: must hold numbers of shape (k, k) or (k, k, channels)")
    return kernel.astype(np.float32)


class Upscaler:
    """A model ready to run on pictures of any size, kind and number.

    `compilations`, `cache_hits`, `seconds` (spent running, without compiling) and `peak_bytes` (of the largest program
    that ran since it was last set to 0) tell what running it has cost so far.
    """

    def __init__(
        self,
        model: ISRResCNet,
        *,
        name: str = "model",
        ensemble: bool = False,
        num_stages: int | None = None,
        kernel: Float[np.ndarray, "rows cols *channels"] | None = None,
        noise_std: float | int | None = None,
        batch_size: int = 16,
    ):
        """Prepares a model; compiles nothing yet.

        Args:
          model: The model.
          name: What messages call it.
          ensemble: Average over the eight flips and rotations of each picture (geometric self-ensemble).
          num_stages: Stop after so many stages; all by default.
          kernel: Blur kernel of data terms "blur" and "released_kernel"; one for all channels or one each.
          noise_std: Noise level of the pictures on the 0..255 scale; estimated from each if not given.
          batch_size: Most pictures that run together.
        Raises:
          ConfigError: If an option does not fit the model.
        """
        config = model.config
        wants_kernel = config.data_term in ("blur", "released_kernel")
        if wants_kernel and kernel is None:
            raise ConfigError(f"{name} needs the blur kernel of the pictures: give it with --kernel FILE.npy")
        if kernel is not None and not wants_kernel:
            raise ConfigError(
                f'{name} has data term "{config.data_term}", which takes no blur kernel: leave out --kernel'
            )
        if kernel is not None and (
            kernel.ndim not in (2, 3) or (kernel.ndim == 3 and kernel.shape[2] != config.channels)
        ):
            raise ConfigError(f"the kernel has shape {kernel.shape}; {name} wants (k, k) or (k, k, {config.channels})")
        if num_stages is not None and not 1 <= num_stages <= config.num_stages:
            raise ConfigError(f"num_stages is {num_stages}; {name} has stages 1 to {config.num_stages}")
        if ensemble and config.data_term in _FIXED_PHASE_DATA_TERMS:
            raise ConfigError(
                f'{name} has data term "{config.data_term}", which flipped pictures do not obey: no --ensemble'
            )
        if noise_std is not None and not config.projection:
            raise ConfigError(f"{name} makes no use of a noise level: leave out --noise-std")
        if noise_std is not None and not 0 <= noise_std < math.inf:
            raise ConfigError(f"noise_std is {noise_std}; it is a level on the 0..255 scale, 0 or more")
        self.config, self.name, self.ensemble, self.batch_size = config, name, ensemble, batch_size
        self.num_stages = config.num_stages if num_stages is None else num_stages
        self.scale = config.scale
        self.num_parameters = sum(leaf.size for leaf in jax.tree.leaves(model))
        self.macs_per_pixel = macs_per_pixel(config, self.num_stages) * (8 if ensemble else 1)
        self.compilations = self.cache_hits = self.peak_bytes = 0
        self.seconds = 0.0
        self._kernel = None if kernel is None else kernel.astype(np.float32)
        self._noise_std = noise_std
        self._programs: dict[tuple, tuple[Any, int]] = {}
        devices = jax.local_devices()
        self._mesh = jax.make_mesh((len(devices),), ("batch",), (jax.sharding.AxisType.Auto,), devices=devices)
        self._model = jax.device_put(model, self._sharding())

    def upscale(
        self, image: Shaped[np.ndarray, "height width *channels"]
    ) -> Shaped[np.ndarray, "new_h new_w *channels"]:
        """Super-resolves one picture.

        Args:
          image: Grey (H, W) or (H, W, 1), or RGB (H, W, 3): uint8, uint16, or floating point on 0..255.
        Returns: The picture, `scale` times as large, of the same type; integers are rounded and clipped.
        Raises:
          UserError: If it does not fit into memory.
          ValueError: If the shape or type is none of the above.
        """
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)) or 0 in image.shape:
            raise ValueError(f"a picture has shape (H, W), (H, W, 1) or (H, W, 3), not {image.shape}")
        if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
            raise ValueError(f"a picture is uint8, uint16 or floating point on 0..255, not {image.dtype}")
        unit = 257 if image.dtype == np.uint16 else 1
        lr = (image.reshape(*image.shape[:2], -1) / unit).astype(np.float32)
        hr = self.upscale_batch(lr[None])[0].reshape(*(self.scale * s for s in image.shape[:2]), *image.shape[2:])
        return round_to(hr * unit, image.dtype)

    def upscale_batch(self, lr: LRImages, *, all_stages: bool = False) -> HRImages:
        """Super-resolves pictures of one shape.

        A model of colour sees grey as three equal channels, whose mean is returned; a model of grey sees each channel.

        Args:
          lr: Pictures, grey or RGB, 0..255.
          all_stages: Return the estimate after every stage, with a leading axis.
        Returns: HR pictures, float32, neither rounded nor (unless the model does) clipped.
        Raises:
          UserError: If a picture does not fit into memory.
        """
        return np.concatenate(list(self.upscale_batches(lr, all_stages=all_stages)), axis=-4)

    def upscale_batches(self, lr: LRImages, *, all_stages: bool = False) -> Iterator[HRImages]:
        """Yields what `upscale_batch` returns in parts of a few pictures, in order, for sets that fill the memory.

        All parts run through one program: the last one is filled up.
        """
        largest = MAX_BATCH_PIXELS // (lr.shape[1] * lr.shape[2] * self.scale**2)
        largest = max(1, min(self.batch_size, largest))
        size = math.ceil(len(lr) / math.ceil(len(lr) / largest))
        if len(lr) > 1:
            size = math.ceil(size / self._mesh.size) * self._mesh.size
        for first in range(0, len(lr), size):
            batch = np.asarray(lr[first : first + size], np.float32)
            filled = np.concatenate([batch, *[batch[:1]] * (size - len(batch))])
            yield self._run_channels(filled, all_stages)[..., : len(batch), :, :, :]

    def upscale_picture(self, picture: Picture, scale: float | int | None = None) -> tuple[Picture, np.ndarray]:
        """Super-resolves a picture with all that belongs to it.

        Transparency is enlarged apart (bicubic), the colour under it filled from the visible neighbours; the resolution
        is multiplied, the profile kept.

        Args:
          picture: What to enlarge.
          scale: Factor, at most the model's own: the result is downsampled (bicubic). The model's own by default.
        Returns: The picture, and its pixels before rounding: float32 on 0..255.
        Raises:
          UserError: If it does not fit into memory.
        """
        pixels = picture.pixels
        unit = 257 if pixels.dtype == np.uint16 else 1
        if picture.alpha is not None:
            pixels = fill_transparent(pixels, picture.alpha)
        hr = self.upscale_batch((pixels / unit).astype(np.float32)[None])[0]
        if scale is not None and scale != self.scale:
            hr = imresize(hr, size=picture.scaled_size(scale))
        return scaled_picture(picture, round_to(hr * unit, pixels.dtype)), hr

    def _run_channels(self, lr: np.ndarray, all_stages: bool) -> np.ndarray:
        channels = lr.shape[3]
        if channels == self.config.channels:
            return self._run_ensemble(lr, all_stages)
        if channels == 1:
            return self._run_ensemble(lr.repeat(3, axis=3), all_stages).mean(axis=-1, keepdims=True)
        hr = self._run_ensemble(np.concatenate(np.split(lr, channels, axis=3)), all_stages)
        return np.concatenate(np.split(hr, channels, axis=-4), axis=-1)

    def _run_ensemble(self, lr: np.ndarray, all_stages: bool) -> np.ndarray:
        if not self.ensemble:
            return self._run_tiles(lr, all_stages)
        total = np.zeros(())
        for flip in (1, -1):
            for turns in range(4):
                turned = np.rot90(lr[:, :, ::flip], turns, axes=(1, 2))
                hr = self._run_tiles(np.ascontiguousarray(turned), all_stages)
                total = total + np.rot90(hr, -turns, axes=(-3, -2))[..., ::flip, :].astype(np.float64)
        return (total / 8).astype(np.float32)

    def _run_tiles(self, lr: np.ndarray, all_stages: bool) -> np.ndarray:
        """Works on large pictures window by window, where no stage looks at the picture as a whole.

        Windows overlap by twice what an output pixel can see, so the result is that of the whole picture.
        """
        _, height, width, _ = lr.shape
        halo = self._halo()
        window = TILE if halo is None else max(TILE, 2 * halo + 64)
        if halo is None or height * width <= window**2 or all_stages:
            return self._run_program(lr, all_stages)
        rows, columns = (_windows(size, window, halo) for size in (height, width))
        s = self.scale
        hr = np.empty((len(lr), height * s, width * s, lr.shape[3]), np.float32)
        for top, first_row, last_row in rows:
            for left, first_column, last_column in columns:
                tile = self._run_program(lr[:, top : top + window, left : left + window], False)
                kept = tile[:, (first_row - top) * s : (last_row - top) * s]
                kept = kept[:, :, (first_column - left) * s : (last_column - left) * s]
                hr[:, first_row * s : last_row * s, first_column * s : last_column * s] = kept
        return hr

    def _halo(self) -> int | None:
        """Returns how far an output pixel sees, in LR pixels; None if it sees the whole picture."""
        config, erd = self.config, self.config.erd
        if config.projection or config.data_term not in _TILED_DATA_TERMS:
            return None  # the noise level and the norm are the picture's
        network = 2 * (erd.kernel_size // 2) + 2 * erd.num_blocks * max(1, erd.feedback_steps)
        network = network if erd.resolution == "lr" else math.ceil(network / self.scale)
        blur = 0 if self._kernel is None else math.ceil(max(self._kernel.shape[:2]) / self.scale)
        data_step = 6 + 2 * blur  # 3 for H, 3 for its adjoint
        return self.num_stages * (network + data_step) + config.final_data_step * data_step + 3  # 3 for the start

    def _run_program(self, lr: np.ndarray, all_stages: bool) -> np.ndarray:
        """Compiles for the shape, if it is new, and runs."""
        images = jax.device_put(lr, self._sharding("batch" if len(lr) % self._mesh.size == 0 else None))
        key = (lr.shape, all_stages)
        try:
            if key not in self._programs:
                if len(self._programs) == MAX_PROGRAMS:
                    del self._programs[next(iter(self._programs))]
                self._programs[key] = self._compile(images, all_stages)
            program, needed = self._programs[key]
            self.peak_bytes = max(self.peak_bytes, needed)
            start = time.perf_counter()
            hr = np.asarray(program(self._model, images))
            self.seconds += time.perf_counter() - start
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise _does_not_fit(lr) from error
        return hr

    def _compile(self, images: jax.Array, all_stages: bool) -> tuple[Any, int]:
        """Returns the program for the shape of `images`, and the bytes it needs."""
        noise_std = None if self._noise_std is None else np.full(len(images), self._noise_std, np.float32)

        def run(model: ISRResCNet, lr: jax.Array) -> jax.Array:
            options = {"num_stages": self.num_stages, "all_stages": all_stages}
            kernel = None if self._kernel is None else jax.numpy.asarray(self._kernel)
            noise = None if noise_std is None else jax.numpy.asarray(noise_std)
            return model(lr, kernel=kernel, noise_std=noise, **options)

        hits = _cache_hits.count
        program = jax.jit(run).lower(self._model, images).compile()
        from_cache = _cache_hits.count > hits
        self.cache_hits += from_cache
        self.compilations += not from_cache
        memory, needed = program.memory_analysis(), 0
        if memory is not None:
            needed = memory.temp_size_in_bytes + memory.output_size_in_bytes + memory.argument_size_in_bytes
            if jax.default_backend() == "cpu" and needed > _memory():
                raise _does_not_fit(np.asarray(images), needed)  # else the system would end the process
        return program, needed

    def _sharding(self, *axes: str | None) -> jax.sharding.NamedSharding:
        return jax.sharding.NamedSharding(self._mesh, jax.sharding.PartitionSpec(*axes))


def macs_per_pixel(config: ModelConfig, num_stages: int | None = None) -> float:
    """Returns the multiply-adds of the convolutions per HR pixel: 1.52 million a stage for the released network."""
    erd = config.erd
    inputs = outputs = config.channels
    if erd.resolution == "lr":
        outputs = config.channels * config.scale**2
        inputs = outputs + config.channels + erd.carry_features * erd.features
    per_run = erd.num_blocks * 2 * 9 * erd.features**2 + (2 * erd.features**2 if erd.feedback_steps else 0)
    network = erd.kernel_size**2 * erd.features * (inputs + outputs) + max(1, erd.feedback_steps) * per_run
    network = network / config.scale**2 if erd.resolution == "lr" else network
    return float(network * (config.num_stages if num_stages is None else num_stages))


def round_to(values: Float[np.ndarray, "..."], dtype: Any) -> Shaped[np.ndarray, "..."]:
    """Returns the values as a type: integers rounded and clipped to its range, floating point as it is."""
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    return np.clip(np.floor(values + 0.5), 0, np.iinfo(dtype).max).astype(dtype)


def _windows(size: int, window: int, halo: int) -> list[tuple[int, int, int]]:
    """Covers 0..size by windows of one length: (start of the window, first and last pixel taken from it)."""
    if size <= window:
        return [(0, 0, size)]
    windows, first = [], 0
    while first < size:
        start = min(max(first - halo, 0), size - window)
        last = size if start + window == size else start + window - halo
        windows.append((start, first, last))
        first = last
    return windows


def _does_not_fit(lr: np.ndarray, needed: int | None = None) -> UserError:
    amount = "" if needed is None else f" (it needs {needed / 2**30:.1f} GiB)"
    size = f"{lr.shape[2]}x{lr.shape[1]}"
    return UserError(
        f"a picture of {size} does not fit into memory with this model{amount}: cut it or use a smaller model"
    )


def _memory() -> float | int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return math.inf


class _CacheHits:
    """Counts the programs that JAX found in its cache on disk."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_listener(self._listen)

    def _listen(self, event: str, **_: Any) -> None:
        self.count += event == "/jax/compilation_cache/cache_hits"


_cache_hits = _CacheHits()
