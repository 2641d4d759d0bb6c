"""What the solver's equations need of a physics, and of the noise, as nodes of an ONNX graph.

H^T of MATLAB's reduction is written as an enlargement: its kernel is symmetric, so that it commutes with the mirror
image of the border, and the adjoint of "mirror, filter, keep" is "mirror, spread, filter".
"""

from dataclasses import dataclass

import numpy as np

from isr_jax.config import ConfigError
from isr_jax.models.onnx_graph import Border, Tensor
from isr_jax.physics.noise_level import DB7_HIGH_PASS
from isr_jax.physics.physics import Physics
from isr_jax.physics.released import ReleasedBicubic
from isr_jax.physics.resampling import bicubic_phases, bicubic_taps, catmull_rom_phases
from isr_jax.physics.sampling import Bicubic, BoxAverage, Decimation


@dataclass(frozen=True)
class Separable:
    """A filter along each axis, of which every scale-th value is kept."""

    taps: np.ndarray
    """(blocks, scale): the weights of the blocks of HR pixels around an LR pixel."""
    start: np.ndarray
    """(scale, taps): the weights of the first estimate's phases."""
    border: Border
    """Of the first estimate; H mirrors symmetrically where it looks beyond the picture."""
    squared_norm: float
    """Largest eigenvalue of H^T H."""

    def apply(self, x: Tensor) -> Tensor:
        """Filters the rows, then the columns."""
        blocks, scale = self.taps.shape
        reach = blocks // 2 * scale
        for axis in (2, 3):
            wide = x.extended(axis, reach, reach, "symmetric") if reach else x
            x = wide.filtered(self.taps.reshape(-1), axis, scale)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Spreads and filters."""
        phases = self.taps[::-1].T
        return y.enlarged(phases, 2, "symmetric").enlarged(phases, 3, "symmetric")

    def initial_estimate(self, y: Tensor) -> Tensor:
        """Interpolates."""
        return y.enlarged(self.start, 2, self.border).enlarged(self.start, 3, self.border)


@dataclass(frozen=True)
class Released:
    """The released code's bicubic term; see `isr_jax.physics.released` for what is odd about it."""

    scale: int
    squared_norm: float = 1.0

    def apply(self, x: Tensor) -> Tensor:
        """Keeps the first pixel of each block."""
        return decimated(x, self.scale)

    def adjoint(self, y: Tensor) -> Tensor:
        """Enlarges with the two fractions swapped, in one filter of both axes."""
        scale, weights = self.scale, catmull_rom_phases(self.scale)
        taps = weights.shape[1]
        # kernel[s b' + p, s a' + q] = c(p/s)[a] c(q/s)[b], counted from the far end: a' = taps - 1 - a
        turned = weights[:, ::-1]
        kernel = np.einsum("pa,qb->bpaq", turned, turned).reshape(1, 1, scale * taps, scale * taps)
        wide = y.extended(2, taps // 2, taps // 2, "edge").extended(3, taps // 2, taps // 2, "edge")
        pads = [scale * (taps - 1)] * 4
        return wide.channelwise("ConvTranspose", kernel.astype(np.float32), strides=[scale, scale], pads=pads)

    def initial_estimate(self, y: Tensor) -> Tensor:
        """Samples bilinearly, from outer edge to outer edge, with zeros outside."""
        return _from_corners(y, self.scale)


Operator = Separable | Released
"""A physics in a graph, where H has a kernel of its own."""


@dataclass(frozen=True)
class KnownBlur:
    """A blur whose kernel is an input of the graph, its mirror image beyond the border, and a decimation."""

    kernel: Tensor
    """(rows, cols)."""
    scale: int

    def apply(self, x: Tensor) -> Tensor:
        """Correlates with the turned kernel at every scale-th pixel."""
        sizes = self.kernel.size(0), self.kernel.size(1)
        for axis, size in zip((2, 3), sizes, strict=True):
            half = size.op("Div", np.int64(2))
            x = x.extended(axis, size - np.int64(1) - half, half, "symmetric")
        turned = self.kernel.slice(0, -1, -(2**31), -1).slice(1, -1, -(2**31), -1)
        return x.channelwise("Conv", turned.reshape(1, 1, *sizes), strides=[self.scale, self.scale])


def make_operator(physics: Physics, name: str) -> Operator:
    """Returns a physics of a fixed kernel as an operator.

    Raises:
      ConfigError: If none is written for it; `name` is what it is called.
    """
    match physics:
        case Bicubic(scale=s):
            return Separable(bicubic_taps(s), bicubic_phases(s), "symmetric", 1 / s**2)
        case BoxAverage(scale=s):
            return Separable(np.full((1, s), 1 / s), bicubic_phases(s), "symmetric", 1 / s**2)
        case Decimation(scale=s, phase=(0, 0)):
            return Separable(np.eye(1, s), catmull_rom_phases(s), "edge", 1.0)
        case ReleasedBicubic(scale=s):
            return Released(s)
    raise ConfigError(f'the physics "{name}" has no ONNX graph; export it with --format stablehlo')


def decimated(x: Tensor, scale: int) -> Tensor:
    """Keeps every scale-th pixel."""
    return x.slice(2, 0, 2**31, scale).slice(3, 0, 2**31, scale)


def estimate_noise_std(pictures: Tensor) -> Tensor:
    """Returns the noise level (N, 1, 1, 1), as `isr_jax.physics.noise_level.estimate_noise_std` does."""
    x, half = pictures, len(DB7_HIGH_PASS) // 2
    for axis in (2, 3):
        x = x.extended(axis, half, half, "reflect").filtered(DB7_HIGH_PASS, axis, 2)
    magnitudes = x.op("Abs").op("Reshape", np.array([0, 0, -1]))
    rank = (magnitudes.size(2) + np.int64(1)).op("Div", np.int64(2))  # of the lower of two middle values, from 1
    lowest = magnitudes.op("TopK", rank.reshape(1), axis=2, largest=0, sorted=1)
    median = lowest.slice(2, -1, 2**31)
    return median.op("ReduceMean", axes=[1]).reshape(-1, 1, 1, 1) / 0.6745


def project_l2_ball(noise: Tensor, radius: Tensor) -> Tensor:
    """Returns noise * radius / max(||noise||, radius), the norm over each picture; radius is (N, 1, 1, 1)."""
    tiny = np.float32(np.finfo(np.float32).tiny)
    squared = noise.op("ReduceSumSquare", axes=[1, 2, 3], keepdims=1)
    return noise * (radius / squared.op("Max", (radius * radius).op("Max", tiny)).op("Sqrt"))


def _from_corners(y: Tensor, scale: int) -> Tensor:
    def matrix(axis: int) -> Tensor:
        size = y.size(axis)
        unit = (size * np.int64(scale) - np.int64(1)) * np.int64(2)  # whole numbers, in such parts of a pixel
        at = y.graph.range(0, size * np.int64(scale)) * (size * np.int64(2)) - unit.op("Div", np.int64(2))
        places = y.graph.range(0, size) * unit
        distance = (at.reshape(-1, 1) - places.reshape(1, -1)).op("Abs").cast()
        return (distance / unit.op("Max", np.int64(1)).cast()).op("Neg").op("Add", np.float32(1)).op("Relu")

    rows, cols = matrix(2), matrix(3)
    return rows.op("MatMul", y).op("MatMul", cols.op("Transpose", perm=[1, 0]))
