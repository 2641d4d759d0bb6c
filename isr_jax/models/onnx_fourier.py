"""The data step in closed form as nodes of an ONNX graph: the equations of `isr_jax.physics.fourier`, tapered.

The size that is transformed follows from the sizes of picture and kernel when the graph runs. It has small prime
factors alone, so that a transform of length n = p q is two products with small matrices (Cooley and Tukey 1965): ONNX
has a node for transforms, which onnxruntime computes many times slower unless n is a power of two, and not everywhere.

Spectra lie transposed, (N, C, width, height): each transform is along the last axis, after which the two change places.
"""

import math
from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from isr_jax.models.onnx_graph import Tensor
from isr_jax.physics.fourier import FLATTEST, fast_size

LONGEST = 2**15
"""Longest side in LR pixels, with its margin, that a graph can transform."""


class Complex(NamedTuple):
    """A spectrum; without an imaginary part, a picture."""

    real: Tensor
    imaginary: Tensor | None

    def times(self, other: "Complex") -> "Complex":
        """Returns the product with a complex one."""
        (a, b), (c, d) = self, other
        assert d is not None
        return Complex(a * c, a * d) if b is None else Complex(a * c - b * d, a * d + b * c)

    def matmul(self, other: "Complex") -> "Complex":
        """Returns the matrix product with a complex one."""
        (a, b), (c, d) = self, other
        assert d is not None
        if b is None:
            return Complex(a.op("MatMul", c), a.op("MatMul", d))
        return Complex(a.op("MatMul", c) - b.op("MatMul", d), a.op("MatMul", d) + b.op("MatMul", c))

    def each(self, kind: str, *others: Tensor | np.ndarray, **attributes: object) -> "Complex":
        """Applies a real operation to both parts."""
        real = self.real.op(kind, *others, **attributes)
        return Complex(real, None if self.imaginary is None else self.imaginary.op(kind, *others, **attributes))

    def reshape(self, *shape: int | Tensor) -> "Complex":
        """Returns both parts in another shape."""
        return Complex(self.real.reshape(*shape), None if self.imaginary is None else self.imaginary.reshape(*shape))

    def plus(self, other: "Complex", sign: float = 1.0) -> "Complex":
        """Returns the sum of two spectra, or the difference."""
        assert self.imaginary is not None
        assert other.imaginary is not None
        return Complex(self.real + other.real * sign, self.imaginary + other.imaginary * sign)


class Side(NamedTuple):
    """One side of what is transformed."""

    length: Tensor
    factor: Tensor
    """A divisor of the length near its square root."""


class ClosedForm:
    """What all solutions for one batch of pictures have in common, and the solutions."""

    def __init__(self, y: Tensor, kernel: Tensor, scale: int, phase: tuple[int, int] = (0, 0)) -> None:
        self.scale, self.lr_size = scale, (y.size(2), y.size(3))
        sides = kernel.size(0), kernel.size(1)
        margin = sides[0].op("Max", sides[1]).op("Div", np.int64(scale)) + np.int64(8)
        both = [_fast_sides(n + margin, scale) for n in self.lr_size]
        self.lr_sides, self.sides = [lr for lr, _ in both], [hr for _, hr in both]
        self.margins = [side.length - n for side, n in zip(self.lr_sides, self.lr_size, strict=True)]
        self.observed = _transform(Complex(self._taper(y, 1), None), self.lr_sides)
        self.b = self._transfer(kernel, sides, phase)
        assert self.b.imaginary is not None
        self.power = self.b.real * self.b.real + self.b.imaginary * self.b.imaginary
        self.conjugate = Complex(self.b.real, -self.b.imaginary)

    def smooth_solution(self, weight: Tensor) -> Tensor:
        """Returns argmin 1/2 ||H x - y||^2 + weight/2 ||grad x||^2; the weight is (N, 1, 1, 1)."""
        rows, cols = (_squared_frequencies(side.length) for side in self.sides)
        gradient = cols.reshape(1, 1, -1, 1) + rows.reshape(1, 1, 1, -1) + FLATTEST
        return self._solve(None, weight * gradient)

    def nearest(self, z: Tensor, weight: Tensor) -> Tensor:
        """Returns argmin 1/2 ||H x - y||^2 + weight/2 ||x - z||^2."""
        return self._solve(_transform(Complex(self._taper(z, self.scale), None), self.sides), weight)

    def _solve(self, start: Complex | None, d: Tensor) -> Tensor:
        residual = self.observed
        if start is not None:
            product = self.b.times(start)
            assert product.imaginary is not None
            residual = residual.plus(Complex(self._aliases(product.real), self._aliases(product.imaginary)), -1.0)
        residual = residual.each("Div", self._aliases(self.power / d) + 1.0)
        residual = residual.each("Tile", np.array([1, 1, self.scale, self.scale]))
        change = self.conjugate.times(residual).each("Div", d)
        x = _transform(change if start is None else start.plus(change), self.sides[::-1], inverse=True).real
        for axis, n in zip((2, 3), self.lr_size, strict=True):
            x = x.slice(axis, 0, n * np.int64(self.scale))
        return x

    def _taper(self, x: Tensor, factor: int) -> Tensor:
        """Continues pictures by their mirror images, which pass into each other before they meet at the seam."""
        for axis, lr_margin in zip((2, 3), self.margins, strict=True):
            margin, size = lr_margin * np.int64(factor), x.size(axis)
            t = (x.graph.range(0, margin).cast() + 0.5) / margin.cast()
            blend = (t * t * (-(t * 2.0) + 3.0)).reshape(*((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)))
            after = x.mirrored(axis, x.graph.range(size, size + margin), "symmetric")
            before = x.mirrored(axis, x.graph.range(-margin, 0), "symmetric")
            x = x.graph.concat([x, (-blend + 1.0) * after + blend * before], axis)
        return x

    def _transfer(self, kernel: Tensor, sides: tuple[Tensor, Tensor], phase: tuple[int, int]) -> Complex:
        """The transform of the kernel, its centre moved to the first pixel."""
        lengths = [side.length for side in self.sides]
        nothing = kernel.graph.constant(np.array([0]))
        room = [(length - side).reshape(1) for length, side in zip(lengths, sides, strict=True)]
        kernel = kernel.op("Pad", kernel.graph.concat([nothing, nothing, *room], 0))
        for axis, (length, side, p) in enumerate(zip(lengths, sides, phase, strict=True)):
            places = kernel.graph.range(0, length) + (side.op("Div", np.int64(2)) + np.int64(p))
            kernel = kernel.op("Gather", places.op("Mod", length), axis=axis)
        return _transform(Complex(kernel.reshape(1, 1, *lengths), None), self.sides)

    def _aliases(self, q: Tensor) -> Tensor:
        """The mean over the frequencies that the decimation makes one."""
        s, (rows, cols) = self.scale, self.lr_sides
        return q.reshape(0, 0, s, cols.length, s, rows.length).op("ReduceMean", axes=[2, 4], keepdims=0)


def _transform(x: Complex, sides: list[Side], *, inverse: bool = False) -> Complex:
    """Transforms (N, C, a, b), of the sides a and b, along both axes, and exchanges them."""
    x = _along_last(x, sides[1], inverse).each("Transpose", perm=[0, 1, 3, 2])
    return _along_last(x, sides[0], inverse)


def _along_last(x: Complex, side: Side, inverse: bool) -> Complex:
    """X[k + p l] = sum_j w_n^{jk} w_q^{jl} sum_i w_p^{ik} x[q i + j], of length n = p q."""
    n, p = side
    q = n.op("Div", p)
    x = x.reshape(0, 0, 0, p, q).each("Transpose", perm=[0, 1, 2, 4, 3])
    x = x.matmul(_roots(p, p, p, inverse)).times(_roots(q, p, n, inverse))
    x = x.each("Transpose", perm=[0, 1, 2, 4, 3]).matmul(_roots(q, q, q, inverse))
    x = x.each("Transpose", perm=[0, 1, 2, 4, 3]).reshape(0, 0, 0, n)
    return x.each("Div", n.cast()) if inverse else x


def _roots(rows: Tensor, cols: Tensor, n: Tensor, inverse: bool) -> Complex:
    """The matrix exp(-2 pi i row col / n), or its conjugate."""
    product = (rows.graph.range(0, rows).reshape(-1, 1) * cols.graph.range(0, cols).reshape(1, -1)).op("Mod", n)
    angle = product.cast() / n.cast() * (2 * math.pi if inverse else -2 * math.pi)
    return Complex(angle.op("Cos"), angle.op("Sin"))


def _squared_frequencies(n: Tensor) -> Tensor:
    sine = (n.graph.range(0, n).cast() / n.cast() * math.pi).op("Sin")
    return sine * sine * 4.0


def _fast_sides(least: Tensor, scale: int) -> tuple[Side, Side]:
    """Returns what `isr_jax.physics.fourier.fast_size` does, from a table, and its multiple by the scale."""
    sizes = [1]
    while sizes[-1] < LONGEST:
        sizes.append(fast_size(sizes[-1] + 1))
    graph, table = least.graph, np.array(sizes)
    place = (
        graph.constant(table).op("Less", least).cast(TensorProto.INT64).op("ReduceSum", keepdims=0)
    )  # so many are too short

    def side(times: int) -> Side:
        factors = np.array([_near_root(size * times) for size in sizes])
        return Side(*(graph.constant(values).op("Gather", place) for values in (table * times, factors)))

    return side(1), side(scale)


def _near_root(n: int) -> int:
    return next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)
