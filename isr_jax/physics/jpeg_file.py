"""The coefficients that a JPEG file holds, exactly: read by jpeglib (the extra "jpeg"), which wraps libjpeg.

Pillow gives the tables but not the coefficients. Those of its decoded pixels are the file's nearly everywhere, but not
where pixels are black or white (the decoder cuts off what is beyond), nor above quality 94, where a step is as small as
the rounding of a pixel.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from isr_jax.config import UserError
from isr_jax.physics.jpeg_tables import DCT, YCBCR


@dataclass(frozen=True, kw_only=True)
class JpegFile:
    """What a file says of its picture, as blocks of quantised coefficients."""

    coefficients: tuple[Int[np.ndarray, "_ _ 8 8"], ...]
    """Of luma, or of luma and two chroma; whole numbers of steps, frequencies by row and column."""
    tables: tuple[Shaped[np.ndarray, "8 8"], ...]
    """The step of each coefficient, a table for each of them."""
    sampling: tuple[int, int]
    """Rows and columns of pixels that share a value of chroma: (1, 1) is 4:4:4, (1, 2) 4:2:2, (2, 2) 4:2:0."""
    size: tuple[int, int]
    """Height and width of the picture, pixels. The blocks reach beyond, to `whole_size`."""

    @property
    def whole_size(self) -> tuple[int, int]:
        """Height and width that the blocks of all planes cover: multiples of 8 times the sampling."""
        rows, cols = (8 * step for step in self.sampling)
        return -(-self.size[0] // rows) * rows, -(-self.size[1] // cols) * cols

    def decode(self) -> Float[np.ndarray, "height width channels"]:
        """Returns the picture of `whole_size`, grey or RGB, neither rounded nor clipped; each chroma as a block."""
        planes = []
        for coefficients, table, plane_sampling in zip(self.coefficients, self.tables, self._samplings(), strict=True):
            blocks = DCT.T @ (coefficients * table.astype(np.float32)) @ DCT
            plane = blocks.swapaxes(1, 2).reshape(8 * blocks.shape[0], 8 * blocks.shape[1])
            plane = plane.repeat(plane_sampling[0], 0).repeat(plane_sampling[1], 1)
            missing = [(0, whole - n) for whole, n in zip(self.whole_size, plane.shape, strict=True)]
            planes.append(np.pad(plane, missing, mode="edge"))
        picture = np.stack(planes, axis=-1)
        picture[..., 0] += 128
        return picture @ np.linalg.inv(YCBCR).T if len(planes) == 3 else picture

    def _samplings(self) -> list[tuple[int, int]]:
        return [(1, 1), self.sampling, self.sampling][: len(self.coefficients)]


def read_jpeg(path: Path) -> JpegFile:
    """Reads the coefficients of a JPEG file. The picture is as it lies in the file: an EXIF turn is not applied.

    Raises:
      UserError: If it is none, or its colours are neither grey nor YCbCr with chroma of one sampling.
      ModuleNotFoundError: Without the extra "jpeg".
    """
    import jpeglib  # here: an optional dependency

    try:
        if path.read_bytes()[:2] != b"\xff\xd8":  # libjpeg writes to standard error of others
            raise UserError(f"{path} is not a JPEG file: convert the picture, or leave the constraint out")
        file = jpeglib.read_dct(str(path))
        colours = str(file.jpeg_color_space)
        planes = [plane for plane in (file.Y, file.Cb, file.Cr) if plane is not None]
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or 'its JPEG coefficients cannot be read: is it damaged?'}"
        ) from error
    factors = [tuple(int(n) for n in pair) for pair in np.asarray(file.samp_factor)]
    if len(planes) == 1 and file.num_components == 1:
        sampling = (1, 1)
    elif "YCbCr" in colours and len(factors) == 3 and factors[1] == factors[2]:
        sampling = factors[0][0] // factors[1][0], factors[0][1] // factors[1][1]
        if (sampling[0] * factors[1][0], sampling[1] * factors[1][1]) != factors[0]:
            raise UserError(f"{path}: its chroma is sampled {factors}, which no block of pixels fits: save it again")
    else:
        raise UserError(f"{path} is a JPEG of other colours than grey or YCbCr: save it again as one of these")
    return JpegFile(
        coefficients=tuple(np.asarray(plane, np.int32) for plane in planes),
        tables=tuple(np.asarray(file.qt[number]) for number in list(file.quant_tbl_no)[: len(planes)]),
        sampling=sampling,
        size=(int(file.height), int(file.width)),
    )
