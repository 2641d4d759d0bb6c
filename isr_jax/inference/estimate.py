"""What happened to a picture: blur, noise, JPEG, an earlier enlargement; or "cannot tell".

`estimate_degradation` needs NumPy alone, and little time, for it looks at a sample of windows. Blur and noise come from
a small network that `experiments/estimate_training.py` trained on `isr_jax.physics`; the rest is counted.
"""

import io
import math
import os
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image, JpegImagePlugin

from isr_jax.config import ConfigError, UserError
from isr_jax.inference.estimate_enlargement import find_enlargement
from isr_jax.inference.estimate_features import WINDOW, Sample, most_noise, sample_windows, widest, width_of
from isr_jax.inference.estimate_jpeg import find_jpeg
from isr_jax.inference.estimate_network import believe
from isr_jax.inference.frame import NO_FRAME, Frame, find_layers, later_frame, steps_inward
from isr_jax.inference.intensities import grey_level
from isr_jax.physics.jpeg_tables import quality_tables, table_quality
from isr_jax.pictures.images import read_image
from isr_jax.pictures.picture import Picture
from isr_jax.pictures.pillow import picture_from_pillow
from isr_jax.pictures.sixteen_bits import to_8_bits

TRAINED_SCALE = 4
"""The network tells widths in HR pixels of this scale, the reduction included in the picture of them."""
NEAR = 0.125
"""LR pixels: the width counts as right within these, half an HR pixel at scale 4."""
LEAST_CONFIDENCE = 0.2
"""Below, the width is not told."""
CLEAN_NOISE, CLEAN_BLUR = 1.5, 0.125
"""Below, noise on 0..255 and the blur in the picture's own pixels are not told from none."""
DISTRUST = 0.75
"""Of the expected error of a width: by so much a model is told a narrower one. Told too wide a blur, it spoils a
picture; told too narrow a one, it hardly loses."""
LEAST_QUALITY = 40
"""Of a JPEG: below, smooth pictures can be taken for far too blurred."""
DRAWN = 0.5
"""Share of equal neighbours from which on a picture is drawn, or a screenshot."""
SLIGHT_NOISE = 0.1
"""Share of equal neighbours from which on there is hardly noise, which would make edges steeper than they are."""
HOT = 1e-3
"""Share of the steps in a photograph that may be those of hot pixels, and no edges."""
EQUAL_NOISE = 0.5
"""Noise that leaves half of the neighbours equal: of more, pixels that differ are drawn so."""
DRAWN_BLUR = 0.4
"""LR pixels: of drawn pictures a narrower blur is not told, for most of them are as sharp as pixels allow."""
PARTLY_DRAWN = 0.2
"""Share of equal neighbours from which on the weights are those that have seen pages, charts and cartoons: their edges
are sharper than any photograph's, so that a blurred one is taken for a sharp photograph."""
LUMA_NOISE = 0.669
"""Noise of the luma of three channels with noise of their own, in units of that."""
JPEG_BLOCK = 16
"""Pixels that a block of a JPEG is wide at most, that of its chroma at 4:2:0: it carries a frame's edge so far."""
MORE = 1.5
"""By how much a width may exceed what an edge allows, for it is estimated and the edge need not be whole."""
ROUND = 0.25
"""Widths that differ by less than this share of the larger are one: within the error of the estimate."""


@dataclass(frozen=True, kw_only=True)
class FoundJpeg:
    """The JPEG file that pixels come from."""

    quality: int
    """As libjpeg counts it; of tables that are not libjpeg's the nearest."""
    tables: tuple[tuple[int, ...], ...]
    """Steps of luma, or of luma and chroma, by row and column: 64 numbers each."""
    sampling: tuple[int, int] | None
    """Rows and columns that share a value of chroma; (2, 2) is 4:2:0. None: grey, or it cannot be told."""
    shift: tuple[int, int] = (0, 0)
    """Row and column of the first whole block."""
    from_file: bool = False
    """Whether it is what the file says, and not found in the pixels."""

    def __str__(self) -> str:
        names = {(1, 1): " (4:4:4)", (1, 2): " (4:2:2)", (2, 2): " (4:2:0)", (2, 1): " (4:4:0)", (1, 4): " (4:1:1)"}
        return f"JPEG {self.quality}{'' if self.sampling is None else names.get(self.sampling, '')}"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is believed of a picture. None stands for "cannot tell".

    Examples:
      >>> estimate = isr_jax.Estimate(
      ...     scale=2, blur=(0.8, 0.8, 0.0), blur_std=0.8, noise_std=3.0, jpeg=None, enlarged=None, confidence=0.7
      ... )
      >>> print(estimate)
      blur 0.8 px, noise 3.0, no JPEG
      >>> estimate.physics().apply(jnp.ones((1, 32, 32, 3))).shape
      (1, 16, 16, 3)
    """

    scale: float | int
    """By what the picture is to be enlarged: HR pixels are that much smaller than its own."""
    blur: tuple[float, float, float] | None
    """Standard deviations of a Gaussian before MATLAB's bicubic reduction by `scale`, HR pixels, the larger first, and
    the angle of that axis, degrees from the width towards the height: the `blur` that `Upscaler` takes."""
    blur_std: float | None
    """The width of the round Gaussian that is nearest, HR pixels."""
    noise_std: float | None
    """On 0..255."""
    jpeg: FoundJpeg | None
    """None also where no trace of one is found."""
    enlarged: float | None
    """By what it was enlarged before, 1.5 to 4; None where no trace of that is found."""
    confidence: float
    """How likely `blur_std` is right within an eighth of the picture's pixels, as measured on other pictures; 0..1."""
    remarks: tuple[str, ...] = field(default=())
    """Why something cannot be told."""
    frame: Frame | None = None
    """Rows and columns at the top, bottom, left and right that came later than the blur, for their edges are too steep;
    None also where they could have been blurred with the picture."""

    def __str__(self) -> str:
        return ", ".join(self._words())

    def _words(self) -> Iterator[str]:
        if self.enlarged is not None:
            yield f"already enlarged {self.enlarged:g} times"
        if self.blur is None or self.blur_std is None:
            yield "blur: cannot tell"
        elif self.blur[0] == self.blur[1]:
            yield f"blur {self.blur_std:.1f} px"
        else:
            yield f"blur {self.blur[0]:.1f} x {self.blur[1]:.1f} px at {self.blur[2]:.0f} degrees"
        yield "noise: cannot tell" if self.noise_std is None else f"noise {self.noise_std:.1f}"
        yield "no JPEG" if self.jpeg is None else str(self.jpeg)
        if self.frame is not None:
            yield "in a frame"

    def physics(self) -> Any:
        """Returns the physics that is believed, for `Upscaler`: MATLAB's bicubic reduction of the blurred picture.

        All blurs of one scale have kernels of one size, so that one program serves them; where the blur cannot be told
        it is MATLAB's reduction alone, which cannot harm.

        Raises:
          ConfigError: If the scale is not whole.
        """
        from isr_jax.physics.blur import Blur  # here: estimating must not wait for JAX
        from isr_jax.physics.kernels import gaussian_kernel
        from isr_jax.physics.sampling import Bicubic

        if self.scale != int(self.scale):
            raise ConfigError(f"`scale` is {self.scale}; a physics reduces by a whole number: give one")
        sample = Bicubic(int(self.scale))
        if self.blur is None:
            return sample
        kernel = gaussian_kernel(self.blur[:2], math.radians(self.blur[2]), radius=4 * sample.scale)
        return sample @ Blur(kernel)

    def known(self, given: Container[str] = (), *, jpeg: bool = False) -> dict[str, Any]:
        """Returns what `Upscaler.upscale` is to be told, for a model that is told a blur: `physics` and `noise_std`.

        That is `told_blur`, before MATLAB's reduction. And `frame`, where there is one.

        Args:
          given: What is known better, by the names of the arguments: `blur`, `physics`, `noise_std`, `jpeg`, `frame`.
          jpeg: Whether the model is told the quality of a JPEG, too, `jpeg`: of pictures that are not too small.
        """
        told = replace(self, blur=self.told_blur)
        known: dict[str, Any] = {} if "blur" in given or "physics" in given else {"physics": told.physics()}
        if self.frame is not None and "frame" not in given:
            known["frame"] = self.frame
        if "noise_std" not in given:
            known["noise_std"] = self.noise_std or 0.0
        measured = self.noise_std is not None  # of what is too small for that, a network makes too much of a JPEG
        if jpeg and self.jpeg is not None and measured and "jpeg" not in given:
            known["jpeg"] = self.jpeg.quality
        return known

    @property
    def blur_error(self) -> float:
        """The expected absolute error of `blur_std`, HR pixels: that of a Laplacian, whose tails `confidence` tells."""
        sure = math.log1p(-self.confidence) if self.confidence < 1 else -math.inf
        return -NEAR * self.scale / sure if sure else math.inf

    @property
    def trust(self) -> float:
        """The part of its blur that a model is told, 0..1: the less, the larger `blur_error`; of a coarse JPEG none."""
        if self.blur is None or not self.blur_std or (self.jpeg is not None and self.jpeg.quality < LEAST_QUALITY):
            return 0.0
        return max(0.0, 1 - DISTRUST * self.blur_error / self.blur_std)

    @property
    def told_blur(self) -> tuple[float, float, float] | None:
        """The blur that a model is told: `trust` of `blur`; None where that is none."""
        if self.blur is None or not self.trust:
            return None
        return self.blur[0] * self.trust, self.blur[1] * self.trust, self.blur[2]

    @property
    def clean(self) -> bool:
        """Whether nothing is found that MATLAB's reduction alone would not explain: what isr-lite is made for."""
        noise, blur = self.noise_std or 0.0, (self.blur_std or 0.0) * self.trust
        return self.jpeg is None and self.enlarged is None and noise < CLEAN_NOISE and blur < CLEAN_BLUR * self.scale

    def at_scale(self, scale: float | int) -> "Estimate":
        """Returns the same in the pixels of another enlargement.

        Raises:
          ConfigError: If it is not positive.
        """
        _check_scale(scale)
        ratio = scale / self.scale
        if self.blur is None or self.blur_std is None:
            return replace(self, scale=scale)
        major, minor, angle = self.blur
        blur = (round(major * ratio, 3), round(minor * ratio, 3), angle)
        return replace(self, scale=scale, blur=blur, blur_std=round(self.blur_std * ratio, 3))

    def as_dict(self) -> dict[str, Any]:
        """Returns it as JSON stores it."""
        return asdict(self)


def _check_scale(scale: float | int) -> None:
    if not 0 < scale < math.inf:
        raise ConfigError(f"`scale` is {scale}; it is by what the picture is to be enlarged, such as 4")


def estimate_degradation(picture: Any, *, scale: float | int = 4, file: str | os.PathLike | bytes = b"") -> Estimate:
    """Estimates what happened to a picture. Never fails on a picture that can be read.

    Args:
      picture: A path, the bytes of a file, a Pillow image, a `Picture`, or an array (H, W), (H, W, 1) or (H, W, 3),
        uint8, uint16, or floating point on 0..255. Of a JPEG file the tables are the file's own.
      scale: By what it is to be enlarged: in whose pixels blurs are told.
      file: Where an array or a `Picture` comes from, path or bytes, if its tables shall be a JPEG file's own, too.
    Raises:
      ConfigError: If the scale is not positive.
      UserError: If the file cannot be read.
      TypeError: If it is no picture.
      ValueError: If values are not finite, or those of floating point on 0..1.
    Examples:
      >>> print(isr_jax.estimate_degradation(np.zeros((32, 32), np.uint8)))
      blur: cannot tell, noise 0.0, no JPEG
    """
    _check_scale(scale)
    pixels, jpeg = _open(picture)
    jpeg = jpeg or _read_tables(file)
    if pixels.dtype == np.uint16:
        pixels = to_8_bits(pixels)
    if jpeg is None and (found := find_jpeg(pixels)):
        tables = quality_tables(found.quality)[: 1 if pixels.shape[2] == 1 else 2]
        jpeg = FoundJpeg(quality=found.quality, tables=_as_numbers(tables), sampling=found.sampling, shift=found.shift)
    layers = find_layers(pixels)
    if layers and min(pixels[layers[-1].inside(pixels.shape)].shape[:2]) < WINDOW // 2:
        layers = []  # what is inside is too small to tell anything
    frame = layers[-1] if layers else NO_FRAME
    traces = 0 if jpeg is None else JPEG_BLOCK
    inner = pixels[frame.wider(traces, pixels.shape).inside(pixels.shape)]
    beside = float(steps_inward(pixels, frame, 3 + traces)[:, 1:].max())
    sample = sample_windows(inner)
    whole = sample_windows(pixels) if layers else sample
    drawn = whole is not None and whole.equal > DRAWN  # a chart's frame says so, too
    blur, blur_std, noise_std, confidence, remarks = _blur_and_noise(inner, sample, scale, jpeg, drawn, beside)
    later = None
    if sample is not None and blur_std is not None:
        least = blur_std / (MORE * scale)
        later = later_frame(pixels, layers, lambda step: width_of(step, sample.windows) < least)
        if later is not None and jpeg is not None:
            blur = blur_std = later = None
            confidence, remarks = 0.0, ("it got its frame before it was a JPEG, which blends them: crop it first",)
    return Estimate(
        scale=scale,
        blur=blur,
        blur_std=blur_std,
        noise_std=noise_std,
        jpeg=jpeg,
        enlarged=find_enlargement(inner, jpeg=jpeg is not None),
        confidence=confidence,
        remarks=remarks,
        frame=later,
    )


def _blur_and_noise(
    pixels: np.ndarray,
    sample: Sample | None,
    scale: float | int,
    jpeg: FoundJpeg | None,
    drawn: bool,
    beside: float,
) -> tuple[Any, float | None, float | None, float, tuple]:
    """Returns what an estimate says of both; `beside` is the largest difference of luma in pixels beside the frame."""
    if sample is None:
        return None, None, None, 0.0, ("too small: sides of at least 16 pixels are needed",)
    coarse = jpeg is not None and jpeg.quality < LEAST_QUALITY  # whose flat blocks are not drawn
    width, across, diagonal, noise_std, error = believe(sample.windows, sample.equal >= PARTLY_DRAWN and not coarse)
    # The network was trained on colours, whose luma averages the noise of three channels.
    colour = pixels.shape[2] == 3 and bool((pixels[..., 0] != pixels[..., 1]).any())
    noise_std = min(noise_std, 1.1 * most_noise(sample.windows) / LUMA_NOISE) * (1 if colour else LUMA_NOISE)
    if sample.equal > DRAWN and jpeg is None:  # of noise only a few neighbours are equal
        noise_std = min(noise_std, EQUAL_NOISE)
    noise_std = round(noise_std, 2)
    if sample.textured == 0:
        return None, None, noise_std, 0.0, ("flat: there is nothing in it that a blur would change",)
    if sample.equal > SLIGHT_NOISE:
        bound = widest(sample.windows)
    else:
        bound = widest(sample.windows, noise_std=noise_std, beyond=HOT)
    # A blur that the pixels beside a frame do not share would ring there.
    bound = min(bound, width_of(beside - 6 * noise_std, sample.windows))
    ruled_out = not coarse and width > MORE * TRAINED_SCALE * bound
    if (drawn or sample.equal > DRAWN) and (coarse or ruled_out or width < DRAWN_BLUR * TRAINED_SCALE):
        return None, None, noise_std, 0.0, ("drawn, or a screenshot: no blur can be told from how it was drawn",)
    if ruled_out:
        return None, None, noise_std, 0.0, ("its edges are too steep for the blur that it seems to have",)
    confidence = round(1 - math.exp(-NEAR * TRAINED_SCALE / error), 3)
    if confidence < LEAST_CONFIDENCE:
        return None, None, noise_std, confidence, ("the blur could be any",)
    unit = scale / TRAINED_SCALE
    difference = min(math.hypot(across, diagonal), 1.6 * width)
    # w^2 is the mean of the two variances.
    mean = math.sqrt(max(width**2 - difference**2 / 4, 0))
    major, minor = mean + difference / 2, max(mean - difference / 2, 0.0)
    angle = math.degrees(math.atan2(diagonal, across) / 2) % 180
    if difference < max(ROUND * major, 0.4):
        major = minor = width
        angle = 0.0
    blur = (round(major * unit, 3), round(minor * unit, 3), round(angle, 1))
    return blur, round(width * unit, 3), noise_std, confidence, ()


def _open(picture: Any) -> tuple[Shaped[np.ndarray, "height width channels"], FoundJpeg | None]:
    """Returns the pixels of what `estimate_degradation` takes, and the tables of a JPEG file."""
    if isinstance(picture, str | os.PathLike | bytes):
        return read_image(picture).pixels, _read_tables(picture)
    if isinstance(picture, Image.Image):
        return picture_from_pillow(picture).pixels, _tables(picture)
    if isinstance(picture, Picture):
        return picture.pixels, None
    pixels = np.asarray(picture)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape or pixels.dtype.kind not in "uf":
        what = f"{pixels.dtype} of shape {np.shape(picture)}" if np.ndim(picture) else f"{picture!r:.80}"
        raise TypeError(f"a picture is a path, bytes, a Pillow image or an array (H, W, 1 or 3), not {what}")
    if pixels.dtype.kind == "f":
        grey_level(pixels, 255)  # refuses what is not finite
        if 0 < (largest := float(pixels.max())) <= 1:
            raise ValueError(f"no value of this floating-point picture is above {largest:.3g}; they are on 0..255")
    if pixels.dtype not in (np.uint8, np.uint16):
        pixels = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return pixels, None


def _read_tables(file: str | os.PathLike | bytes) -> FoundJpeg | None:
    try:
        with io.BytesIO(file) if isinstance(file, bytes) else open(file, "rb") as stream:
            if stream.read(2) != b"\xff\xd8":
                return None
            stream.seek(0)
            with Image.open(stream) as image:
                return _tables(image)
    except OSError as error:
        name = "the file" if isinstance(file, bytes) else os.fspath(file)
        raise UserError(f"{name} cannot be read: {error.strerror or error}") from error


def _tables(image: Image.Image) -> FoundJpeg | None:
    """Returns what the head of a JPEG file says; None where it is none."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode not in ("L", "RGB", "CMYK"):
        return None
    layers = [tuple(layer) for layer in image.layer]  # name, rows and columns of sampling, table
    used = sorted({layer[3] for layer in layers})
    tables = np.array([np.reshape(image.quantization[number], (8, 8)) for number in used])
    sampling = None
    if len(layers) == 3:
        columns, rows = (layers[0][k] // max(1, layers[1][k]) for k in (1, 2))
        sampling = rows, columns
    return FoundJpeg(
        quality=table_quality(tables[0]), tables=_as_numbers(tables), sampling=sampling, shift=(0, 0), from_file=True
    )


def _as_numbers(tables: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(step) for step in np.ravel(table)) for table in tables)
