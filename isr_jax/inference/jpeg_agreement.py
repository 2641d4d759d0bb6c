"""A cleaned picture at its own size, held to what its JPEG file says for certain: `isr_jax.physics.jpeg_constraint`."""

import dataclasses
import importlib.util
import os
import tempfile
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Shaped

from isr_jax.config import UserError
from isr_jax.physics.jpeg_constraint import JpegConstraint, jpeg_constraint
from isr_jax.physics.jpeg_file import JpegFile, read_jpeg

STRIP = 512
"""Rows of pixels that are projected together; whole blocks of any sampling."""
SLACK = 1.0
"""What intervals are narrowed by at each end, but to half: the rounding of pixels to 8 bits moves a coefficient by 0.29
on average (its standard deviation)."""

ROUNDS = 3
"""Of projecting and of cutting off what is beyond black and white."""
OTHER = 8.0
"""Mean difference, on 0..255, from which on a file's picture is another one; colours between those of a chroma block
are a decoder's choice."""


def agree_with_jpeg(
    picture: Float[np.ndarray, "height width channels"],
    file: str | os.PathLike | bytes,
    decoded: Shaped[np.ndarray, "height width channels"],
) -> Float[np.ndarray, "height width channels"]:
    """Returns a picture near one whose coefficients are quantised to those of a JPEG file, also when it is rounded.

    Args:
      picture: On 0..255.
      file: The path of the file, or its bytes.
      decoded: What the picture was made of.
    Returns: The same picture where the file is no JPEG that decodes to `decoded` (it may say that it is to be turned),
      its coefficients cannot be read, or the package for that, jpeglib (the extra "jpeg"), is not there.
    """
    found = _read(file)
    if found is None or (*found.size, len(found.tables)) != picture.shape:
        return picture
    height, width = found.size
    if np.abs(found.decode()[:height, :width].clip(0, 255) - decoded).mean() > OTHER:
        return picture
    whole = [(0, n - m) for n, m in zip(found.whole_size, found.size, strict=True)]
    padded = np.pad(picture.astype(np.float32), (*whole, (0, 0)), mode="edge")
    for first in range(0, len(padded), STRIP):
        strip = padded[first : first + STRIP]
        constraint = _narrowed(jpeg_constraint(_rows(found, first, len(strip))))
        for _ in range(ROUNDS):
            strip = np.clip(_project(constraint, strip[None])[0], 0, 255)
        padded[first : first + STRIP] = strip
    return padded[:height, :width]


_project = jax.jit(JpegConstraint.project)


def _read(file: str | os.PathLike | bytes) -> JpegFile | None:
    """Reads what can be read."""
    if importlib.util.find_spec("jpeglib") is None:
        return None
    try:
        if not isinstance(file, bytes):
            return read_jpeg(Path(file))
        with tempfile.NamedTemporaryFile(suffix=".jpg") as named:  # jpeglib opens paths alone
            named.write(file)
            named.flush()
            return read_jpeg(Path(named.name))
    except UserError:
        return None


def _rows(file: JpegFile, first: int, count: int) -> JpegFile:
    """Returns some rows of pixels of a file, whole blocks."""
    coefficients = []
    for k, plane in enumerate(file.coefficients):
        side = 8 * (file.sampling[0] if k else 1)
        coefficients.append(plane[first // side : (first + count) // side])
    size = max(1, min(count, file.size[0] - first)), file.size[1]
    return dataclasses.replace(file, coefficients=tuple(coefficients), size=size)


def _narrowed(constraint: JpegConstraint) -> JpegConstraint:
    """Leaves room for rounding."""

    def ends(least: jax.Array, most: jax.Array) -> tuple[jax.Array, jax.Array]:
        slack = jax.numpy.minimum(SLACK, (most - least) / 4)
        return least + slack, most - slack

    least, most = zip(*map(ends, constraint.least, constraint.most), strict=True)
    return constraint.replace(least=tuple(least), most=tuple(most))
