"""Running a model: pictures of any kind in, pictures out, with few compilations.

A program is compiled once per shape and kept; pictures of many sizes share few (`isr_jax.inference.tiles`), and all
local devices share a batch.
"""

import math
import os
from collections.abc import Iterator
from typing import Any, overload

import jax
import numpy as np
from jaxtyping import Shaped
from PIL import Image

from isr_jax.config import ConfigError, ModelConfig
from isr_jax.inference.arrays import array_of, give_back
from isr_jax.inference.conditions import Blur, blur_kernels, check_levels, make_conditions
from isr_jax.inference.frame import check_frame, continued, put_frame
from isr_jax.inference.intensities import grey_level
from isr_jax.inference.memory_limit import read_memory
from isr_jax.inference.runner import Runner, Tell, Wanted
from isr_jax.inference.sizes import Fit, Size, Target, agree, choose_target, cut_picture, largest_factor
from isr_jax.models.model_file import load_model
from isr_jax.physics.physics import Physics
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import fill_transparent, read_image, scaled_picture
from isr_jax.pictures.metrics import round_to
from isr_jax.pictures.picture import Picture
from isr_jax.pictures.pillow import picture_from_pillow, picture_to_pillow
from isr_jax.solver.unrolled import ISRResCNet

MAX_BATCH_PIXELS = 2**19
"""HR pixels that one batch may have: activations of the largest models take 1 kB and more for each."""

LRImages = Shaped[np.ndarray, "batch height width channels"]
HRImages = Shaped[np.ndarray, "*stages batch hr_height hr_width channels"]


def load(
    model: str | os.PathLike,
    *,
    ensemble: bool = False,
    num_stages: int | None = None,
    scale: int | None = None,
    physics: Physics | None = None,
    blur: Blur | None = None,
    noise_std: float | int | None = None,
    jpeg: float | int | None = None,
    batch_size: int = 16,
    devices: int | str | None = None,
    memory: int | float | str | None = None,
) -> "Upscaler":
    """Loads a model, ready to run; the arguments are those of `Upscaler`.

    Args:
      model: A shipped name, a model file, or a run folder.
    Raises:
      ConfigError: If there is no such model, or an option does not fit it.
      UserError: If the file is damaged.
    Examples:
      >>> model = isr_jax.load("isr-lite-x2")
      >>> model.upscale(np.full((8, 8, 3), 100, np.uint8)).shape
      (16, 16, 3)
    """
    return Upscaler(
        load_model(model),
        name=str(model),
        ensemble=ensemble,
        num_stages=num_stages,
        scale=scale,
        physics=physics,
        blur=blur,
        noise_std=noise_std,
        jpeg=jpeg,
        batch_size=batch_size,
        devices=devices,
        memory=memory,
    )


class Upscaler:
    """A model ready to run on pictures of any size, kind and number; its properties tell what that has cost so far.

    Examples:
      >>> isr_jax.load("isr-lite-x2", ensemble=True)
      Upscaler('isr-lite-x2': ISRResCNet(x2, bicubic, 1 stage, 595,022 parameters), ensemble)
    """

    config: ModelConfig
    scales: tuple[int, ...]
    num_parameters: int
    macs_per_pixel: float
    """Multiply-adds of the convolutions per HR pixel; `scale`, `num_stages` and so on are as asked for."""

    def __init__(
        self,
        model: ISRResCNet,
        *,
        name: str = "model",
        ensemble: bool = False,
        num_stages: int | None = None,
        scale: int | None = None,
        physics: Physics | None = None,
        blur: Blur | None = None,
        noise_std: float | int | None = None,
        jpeg: float | int | None = None,
        batch_size: int = 16,
        devices: int | str | None = None,
        memory: int | float | str | None = None,
    ):
        """Prepares a model; compiles nothing yet.

        Args:
          model: The model.
          name: What messages call it.
          ensemble: Average over the eight flips and rotations of each picture (geometric self-ensemble).
          num_stages: Stop after so many stages; all by default.
          scale: Of the model's scales, that of pictures for which nothing else is said; the model's first by default.
          physics: How pictures were observed for which nothing else is said; by default the model's own, or MATLAB's
            bicubic reduction where that wants to be told a blur.
          blur: Instead of a physics, a blur before the model's own: a standard deviation in HR pixels, (std, std, angle
            in degrees), or a kernel (k, k) or (k, k, C), what a point becomes.
          noise_std: Noise level of such pictures on the 0..255 scale; estimated from each by default.
          jpeg: Quality, 1 to 100, of the JPEG files that such pictures come from, for models that are told it; by
            default they were never compressed.
          batch_size: Most pictures that run together.
          devices: Of how many each picture is shared, or "all", those of all processes that `jax.distributed` joined
            (which then all give the same pictures). By default devices share batches, each picture stays on one.
          memory: What the process may hold, in bytes or as "2G" (on an accelerator, beside its programs): large
            pictures are done in smaller windows. By default what the computer has.
        Raises:
          ConfigError: If an option does not fit the model.
        """
        config = model.config
        if num_stages is not None and not 1 <= num_stages <= config.num_stages:
            raise ConfigError(f"`num_stages` is {num_stages}; {name} has stages 1 to {config.num_stages}")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"`batch_size` is {batch_size}; it must be at least 1, and whole")
        if physics is not None and not isinstance(physics, Physics):
            raise ConfigError(f"`physics` is {physics!r}; it is one of isr_jax, such as isr_jax.Bicubic(4)")
        check_levels(model, name, noise_std, jpeg)
        self.config, self.name, self.ensemble, self.batch_size = config, name, ensemble, batch_size
        self.num_stages = config.num_stages if num_stages is None else num_stages
        self.scale, self.scales = config.scale if scale is None else scale, config.all_scales
        if self.scale not in self.scales:
            raise ConfigError(f"`scale` is {scale}; {name} is made for {self._made_for}")
        self.num_parameters = sum(leaf.size for leaf in jax.tree.leaves(model))
        self.macs_per_pixel = model.macs_per_pixel(self.num_stages, self.scale) * (8 if ensemble else 1)
        self._physics, self._noise_std, self._jpeg = physics, noise_std, jpeg
        self._blur = None if blur is None else blur_kernels(blur, color=True)
        most = None if memory is None else read_memory(memory)
        self._runner = Runner(model, self.num_stages, share=devices, memory=most)

    def __repr__(self) -> str:
        """One line."""
        ensemble, default = ", ensemble" * self.ensemble, f", x{self.scale} by default" * (len(self.scales) > 1)
        return f"{type(self).__name__}({self.name!r}: {self._runner.model!r}{default}{ensemble})"

    @property
    def _made_for(self) -> str:
        return " and ".join(f"x{scale}" for scale in self.scales)

    @property
    def compilations(self) -> int:
        """Programs compiled so far, without those found in JAX's cache."""
        return self._runner.programs.compilations

    @property
    def cache_hits(self) -> int:
        """Programs found there."""
        return self._runner.programs.cache_hits

    @property
    def seconds(self) -> float:
        """Time spent running programs."""
        return self._runner.programs.seconds

    @property
    def exchanged_bytes(self) -> float:
        """What the busiest device has sent to others, where they share pictures."""
        return self._runner.programs.exchanged_bytes

    @property
    def num_devices(self) -> int:
        """How many share a picture; a small picture stays on fewer."""
        return max(1, len(self._runner.sharers))

    @property
    def program_bytes(self) -> dict[tuple[int, ...], int]:
        """Memory of each program that ran, by the shape of its LR batch. Clear it to begin anew."""
        return self._runner.programs.bytes_of

    @property
    def peak_bytes(self) -> int:
        """The most of `program_bytes`; 0 if nothing ran, or the backend does not say."""
        return max(self.program_bytes.values(), default=0)

    @property
    def uses_noise_std(self) -> bool:
        """Whether the result depends on the noise level, so that `noise_std` may be given."""
        return self._runner.model.uses_noise_std

    @property
    def uses_jpeg(self) -> bool:
        """Whether the result depends on the quality of the JPEG file that a picture comes from."""
        return self._runner.model.uses_error_std

    @overload
    def upscale(self, image: Image.Image, **known: Any) -> Image.Image: ...
    @overload
    def upscale(self, image: Any, *, value_range: float | int | None = None, **known: Any) -> np.ndarray: ...
    def upscale(self, image: Any, *, value_range: float | int | None = None, **known: Any) -> Any:
        """Super-resolves one picture.

        Args:
          image: An array (NumPy, JAX, or any that has `__dlpack__`, as PyTorch's), grey (H, W) or (H, W, 1), or RGB
            (H, W, 3): uint8, uint16, or floating point; a Pillow image; or the path of a picture, whose transparency is
            left out.
          value_range: The value of white of a floating-point array, such as 1 or 255 (the default). Has to be given
            where no value is above 1. That of integers is their type's.
          known: What is known of this picture: `physics` or `blur`, `noise_std` and `jpeg`, as for `Upscaler`. And
            what is wanted: `scale`, any factor up to the model's largest, or `size`: (width, height), one of which may
            be None, or the length of the longer side; of another aspect ratio the picture is fitted into a size, unless
            `fit` is "cover" (the rest is cut) or "stretch". See `isr_jax.inference.sizes`; smaller ones are reductions.
            Blurs are told in the pixels of the model's own scale. The model's own scale, or the physics', by default.
            `strength`, 0 to 1 (all, the default): the share of what the network does to the solver's start.
            `frame`: how many rows and columns at the top, bottom, left and right are no part of what was blurred: they
            are enlarged as they are, and the picture is taken for going on there, mirrored.
            `progress`, a function, is told how many windows of the picture are done, and of how many.
        Returns: The picture, enlarged: an array of the same type and range (integers rounded and clipped; for a path
          (H, W, 1) or (H, W, 3); of NumPy's, or of the library that the picture came from by `__dlpack__`), or for a
          Pillow image a Pillow image of the same kind (grey or colour, with transparency or without), upright, with its
          profile and resolution.
        Raises:
          ConfigError: If the blur kernel is larger than the enlarged picture.
          TypeError: If it is none of the above.
          UserError: If it does not fit into memory, or the file is no picture.
          ValueError: If its shape or type is none of the above, a value is not finite, or the range has to be given.
        """
        if value_range is not None and isinstance(image, Image.Image | str | os.PathLike):
            raise ConfigError("`value_range` is that of floating-point arrays; a file's is its own: leave it out")
        if isinstance(image, Image.Image):
            return picture_to_pillow(self.upscale_picture(picture_from_pillow(image), **known)[0])
        if isinstance(image, str | os.PathLike):
            return self.upscale_picture(read_image(image), **known)[0].pixels
        if not isinstance(image, np.ndarray | jax.Array):
            return give_back(self.upscale(array_of(image), value_range=value_range, **known), image)
        image = np.asarray(image)
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)) or 0 in image.shape:
            raise ValueError(f"a picture has shape (H, W), (H, W, 1) or (H, W, 3), not {image.shape}")
        pixels = image.reshape(*image.shape[:2], -1)
        hr, target = self._upscale_one(pixels, dtype=image.dtype, value_range=value_range, **known)
        hr = target.cut(hr)
        return hr.reshape(*hr.shape[:2], *image.shape[2:])

    def __call__(self, pictures: Any, **known: Any) -> Any:
        """Does what `upscale` does; of arrays of four axes, (N, H, W, 1) or (N, H, W, 3), for all at once."""
        if getattr(pictures, "ndim", 0) != 4:
            return self.upscale(pictures, **known)
        if not isinstance(pictures, np.ndarray | jax.Array):
            return give_back(self(array_of(pictures), **known), pictures)
        pictures = np.asarray(pictures)
        if other := known.keys() & {"size", "fit"}:
            raise ConfigError(f"`{min(other)}` is of one picture: call `upscale` for each, or give their `scale`")
        if isinstance(scale := known.get("scale"), float) and scale.is_integer():
            known["scale"] = int(scale)
        return self.upscale_batch(pictures, dtype=pictures.dtype, **known)

    def upscale_batch(
        self,
        lr: LRImages,
        *,
        value_range: float | int | None = None,
        all_stages: bool = False,
        frame: Any = None,
        **known: Any,
    ) -> HRImages:
        """Super-resolves pictures of one shape by one scale.

        A model of colour sees grey as three equal channels, whose mean is returned; a model of grey sees each channel.

        Args:
          lr: Pictures, grey or RGB: uint8, uint16 or floating point.
          value_range: As for `upscale`; it is asked for where no value of all the pictures is above 1.
          all_stages: Return the estimate after every stage, with a leading axis.
          frame: One for all, as for `upscale`.
          known: `physics`, or `blur` (a number, three, a kernel, or a kernel each: (N, k, k), or a list of kernels of
            several sizes), `noise_std` and `jpeg`, one number or one each. A hundred kernels are one compilation.
            `scale`: one of `scales`; by default the physics', or the model's first. `strength`, `progress`: as for
            `upscale`. `dtype`: of the result, float32 by default.
        Returns: HR pictures in the same range, neither rounded nor (unless the model does) clipped but to an integer
          `dtype`.
        Raises:
          ConfigError: If the blur kernel is larger than the enlarged pictures, or the model has no such scale.
          UserError: If a picture does not fit into memory.
          ValueError: As `upscale` does.
        """
        known |= {"value_range": value_range, "all_stages": all_stages}
        if frame is not None:
            cut = check_frame(frame, lr.shape[1:])
            return put_frame(self.upscale_batch(continued(lr, cut), **known), lr, cut)
        parts = list(self.upscale_batches(lr, **known))
        return np.concatenate(parts, axis=-4) if len(parts) > 1 else parts[0]

    def upscale_batches(
        self,
        lr: LRImages,
        *,
        value_range: float | int | None = None,
        all_stages: bool = False,
        physics: Physics | None = None,
        blur: Blur | None = None,
        noise_std: Any = None,
        jpeg: Any = None,
        scale: int | None = None,
        strength: float | int = 1.0,
        dtype: Any = np.float32,
        progress: Tell | None = None,
        reserve: int = 0,
    ) -> Iterator[HRImages]:
        """Yields what `upscale_batch` returns in parts of a few pictures, in order, for sets that fill the memory.

        All parts run through one program: the last one is filled up. No pictures are one empty part.
        """
        if lr.ndim != 4 or lr.shape[3] not in (1, 3) or 0 in lr.shape[1:]:
            raise ValueError(f"pictures have shape (N, H, W, 1) or (N, H, W, 3), not {lr.shape}")
        count, height, width, channels = lr.shape
        unit = np.float32(grey_level(lr, value_range))
        check_levels(self._runner.model, self.name, noise_std, jpeg)
        if not 0 <= strength <= 1:
            raise ConfigError(f"`strength` is {strength}; it is a share of the network's effect, from 0 to 1")
        told = physics is not None or blur is not None
        if scale is None and physics is None and (told or self._physics is None):
            scale = self.scale
        known = make_conditions(
            self.config,
            (count, height, width, self.config.channels),
            physics=physics if told else self._physics,
            blur=blur if told else self._blur,
            noise_std=self._noise_std if noise_std is None else noise_std,
            jpeg=self._jpeg if jpeg is None else jpeg,
            uses_jpeg=self.uses_jpeg,
            scale=scale,
        )
        factor = known.physics.scale
        if count == 0:
            stages = (self.num_stages,) if all_stages else ()
            yield np.empty((*stages, 0, height * factor, width * factor, channels), dtype)
            return
        wanted = Wanted(unit, dtype, all_stages, self.ensemble, strength, reserve, progress)
        largest = min(self.batch_size, max(1, MAX_BATCH_PIXELS // (height * width * factor**2)))
        size = math.ceil(count / math.ceil(count / largest))
        if count > 1:
            size = math.ceil(size / self._runner.num_devices) * self._runner.num_devices
        for first in range(0, count, size):
            indices = np.minimum(np.arange(first, first + size), count - 1)
            batch = lr if size == count else lr[indices]
            yield self._runner.run(batch, known.take(indices), wanted)[..., : min(size, count - first), :, :, :]

    def upscale_picture(
        self, picture: Picture, *, exact: bool = False, reserve: int = 0, **known: Any
    ) -> tuple[Picture, np.ndarray | None]:
        """Super-resolves a picture with all that belongs to it.

        Transparency is enlarged apart (bicubic), the colour under it filled from the visible neighbours; the resolution
        is multiplied, the profile kept.

        Args:
          picture: What to enlarge.
          exact: Return the pixels before rounding, too.
          reserve: Bytes that are needed for what is done with the result.
          known: As for `upscale`.
        Returns: The picture, and, if asked for, its pixels before rounding: float32 on 0..255.
        Raises:
          ConfigError: If the blur kernel is larger than the enlarged picture.
          UserError: If it does not fit into memory.
        """
        pixels = picture.pixels
        if picture.alpha is not None:
            pixels = fill_transparent(pixels, picture.alpha)
        dtype = np.float32 if exact else pixels.dtype
        hr, target = self._upscale_one(pixels, dtype=dtype, reserve=reserve, **known)
        result = cut_picture(scaled_picture(picture, round_to(hr, pixels.dtype) if exact else hr), target)
        if not exact:
            return result, None
        return result, target.cut(hr / np.float32(257) if pixels.dtype == np.uint16 else hr)

    def _upscale_one(self, pixels: np.ndarray, *, frame: Any = None, **wanted: Any) -> tuple[np.ndarray, Target]:
        """Returns the picture resized as wanted, in its own range, and what is to be kept of it."""
        if frame is not None:
            cut = check_frame(frame, pixels.shape)
            hr, target = self._resized(continued(pixels, cut), **wanted)
            if min(np.subtract(hr.shape, pixels.shape)) >= 0:  # else the frame is reduced with the picture
                return put_frame(hr[None], pixels[None], cut)[0], target
        return self._resized(pixels, **wanted)

    def _resized(
        self,
        pixels: np.ndarray,
        *,
        scale: float | int | None = None,
        size: Size | None = None,
        fit: Fit = "contain",
        value_range: float | int | None = None,
        dtype: Any,
        **known: Any,
    ) -> tuple[np.ndarray, Target]:
        """Does that without regard to a frame."""
        if known.get("blur") is not None:  # of one picture three axes are (k, k, C)
            known["blur"] = blur_kernels(known["blur"], color=True)
        if scale is None and size is None:
            choose_target(pixels.shape, scale=self.scale, fit=fit)  # says what is wrong with `fit`
            hr = self.upscale_batch(pixels[None], value_range=value_range, dtype=dtype, **known)[0]
            return hr, Target(hr.shape[:2], hr.shape[:2])
        target = choose_target(pixels.shape, scale=scale, size=size, fit=fit)
        factor = largest_factor(pixels.shape, target.size)
        if factor <= 1 and min(self.scales) > 1:
            grey_level(pixels, value_range)  # says what is wrong with it
            return round_to(imresize(pixels.astype(np.float32), size=target.size), dtype), target
        own = self.own_scale(factor if scale is None else scale)
        if target.size == (pixels.shape[0] * own, pixels.shape[1] * own):
            return self.upscale_batch(pixels[None], value_range=value_range, scale=own, dtype=dtype, **known)[0], target
        hr = self.upscale_batch(pixels[None], value_range=value_range, scale=own, **known)[0]
        hr, lr = imresize(hr, size=target.size), pixels.astype(np.float32)
        mine = (known.get(name) for name in ("physics", "blur", "noise_std", "jpeg"))
        told = any(value is not None for value in (self._physics, self._blur, self._noise_std, self._jpeg, *mine))
        if told or self.config.physics not in ("bicubic", "blur") or min(np.subtract(hr.shape, lr.shape)) < 0:
            return round_to(hr, dtype), target  # another camera, or noise: to agree would be wrong
        return round_to(agree(hr, lr), dtype), target

    def own_scale(self, scale: float | int) -> int:
        """Returns the model's own scale that serves to enlarge by any factor, the least that reaches it.

        Raises:
          ConfigError: If none does.
        """
        if not 0 < scale <= max(self.scales):
            raise ConfigError(
                f"an enlargement by {scale:.10g} is asked for; {self.name} is made for {self._made_for}, and can do no"
                " more"
            )
        return min(own for own in self.scales if own >= scale)
