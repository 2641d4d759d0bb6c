"""Whether a physics is what it says: linear, with its adjoint, norm, solution, turns, first estimate and reach."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from isr_jax.physics.physics import Physics, turn


def check_physics(physics: Physics, shape: tuple[int, int, int], *, tolerance: float = 1e-4) -> dict[str, float]:
    """Checks a physics, one's own above all, on random pictures.

    Args:
      physics: What to check.
      shape: Height, width and channels of small LR pictures, such as (6, 6, 3): the norm and the solution are compared
        with those of H as a dense matrix.
      tolerance: Largest relative error of the exact properties; the norm may be off by a per cent, as power iterations
        are, and by a fifth where it is that of larger pictures. The first estimate of a constant picture may be far
        off, but have no holes.
    Returns: The relative error of each property.
    Raises:
      AssertionError: If a property fails; it is named, with its numbers.
      TypeError: If it is no physics.
      ValueError: If the shape has not three numbers.
    Examples:
      >>> max(isr_jax.check_physics(isr_jax.BoxAverage(2), (4, 4, 1)).values()) < 1e-4
      True
    """
    if not isinstance(physics, Physics):
        raise TypeError(f"`physics` is {physics!r:.60}; it is an object, as isr_jax.Bicubic(4)")
    if not hasattr(physics, "scale"):
        raise AssertionError(f"scale: {type(physics).__name__} has none; 1 where it keeps the size")
    if len(shape) != 3:
        raise ValueError(f"`shape` is {shape}; it is a height, a width and channels, as (6, 6, 3)")
    rng = np.random.default_rng(0)
    lr_shape = (_pictures(physics), *shape)
    hr_shape = physics.hr_shape(lr_shape)
    draw = lambda s: rng.normal(size=s).astype(np.float32)  # noqa: E731
    x, other, y = draw(hr_shape), draw(hr_shape), draw(lr_shape)
    apply, start = jax.jit(physics.apply), jax.jit(physics.initial_estimate)  # one program each, not one an operation
    seen = apply(x)
    if seen.shape != lr_shape:
        raise AssertionError(f"apply takes {hr_shape} to {seen.shape}, not to {lr_shape}")
    if not jnp.isfinite(seen).all():
        raise AssertionError("apply: H x is not finite")
    if not jnp.any(seen):
        raise AssertionError("apply: H x is 0 for every picture")
    errors: dict[str, float] = {}

    def compare(name: str, found: Any, expected: Any, what: str, limit: float = tolerance) -> None:
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        size = np.abs(expected).max()
        error = float(np.abs(found - expected).max() / max(size, 1e-12))
        errors[name] = max(errors.get(name, 0.0), error)
        if not error <= limit:
            raise AssertionError(f"{name}: {what}: off by {error:.2g} of {size:.3g}, where {limit:.1g} is allowed")

    both = apply(2 * x - 3 * other)
    compare("linear", both, 2 * apply(x) - 3 * apply(other), "H(2x - 3x') against 2Hx - 3Hx'")
    compare("linear", apply(0 * x), 0 * y, "H0 against 0")
    left, right = (
        np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in ((apply(x), y), (x, jax.jit(physics.adjoint)(y)))
    )
    scale = float(np.linalg.norm(apply(x)) * np.linalg.norm(y))
    compare("adjoint", [left / scale, 1], [right / scale, 1], "<Hx, y> against <x, H'y>")

    matrices = [_dense(picture, hr_shape, lr_shape) for picture in _each(physics, lr_shape[0])]
    norms = [np.linalg.norm(matrix, 2) ** 2 for matrix in matrices]
    of_window = physics.lr_size is None  # measured on another size
    compare(
        "squared_norm",
        jax.jit(lambda: physics.squared_norm(lr_shape))(),
        norms,
        "the largest eigenvalue of H'H",
        0.2 if of_window else 0.01,
    )
    weight = 0.1 * max(norms)
    exact = [
        np.linalg.solve(a.T @ a + weight * np.eye(a.shape[1]), a.T @ np.ravel(y[i]) + weight * np.ravel(x[i]))
        for i, a in enumerate(matrices)
    ]
    solved = jax.jit(lambda y, x: physics.solve(y, x, weight, iterations=200))(y, x)
    compare("solve", solved.reshape(len(exact), -1), np.stack(exact), "against numpy.linalg.solve", 10 * tolerance)
    for turns, flip in ((1, False), (2, False), (3, False), (0, True), (1, True)):
        of_turned, expected = _turning(physics, turns, flip)(x)
        compare("turned", of_turned, expected, f"{turns} turns, flip={flip}, against by hand")
    observed = jax.jit(lambda x: physics.observe(x, jax.random.key(0), 0.0))(x)
    compare("observe", observed, apply(x), "without noise, against apply")
    alone = jax.jit(lambda physics, x: physics.apply(x))
    loop = [alone(p, x[i : i + 1])[0] for i, p in enumerate(_each(physics, lr_shape[0]))]
    compare("batch", apply(x), np.stack(loop), "all pictures at once against one after the other")
    level = np.full(hr_shape, 100.0, np.float32)
    compare("initial_estimate", start(apply(level)), level, "of a constant picture", 0.9)
    if physics.lr_size is None:
        if physics.reach is not None:
            effect = _effect_from_beyond(physics.reach, apply, lr_shape, seen=physics.scale, at=1)
            compare("reach", [effect + 1], [1], f"what pixels beyond {physics.reach} add to 1")
        if physics.start_reach is not None:
            starts = jax.jit(lambda change: jax.jvp(physics.initial_estimate, (y,), (change,))[1])
            effect = _effect_from_beyond(physics.start_reach, starts, lr_shape, seen=1, at=physics.scale)
            compare("start_reach", [effect + 1], [1], f"what pixels beyond {physics.start_reach} add to 1")
    return errors


def _turning(physics: Physics, turns: int, flip: bool) -> Any:
    """Returns what gives the turned H of a turned picture, and what H gives turned."""
    return jax.jit(
        lambda x: (physics.turned(turns, flip).apply(turn(x, turns, flip)), turn(physics.apply(x), turns, flip))
    )


def changes_when_turned(physics: Physics) -> bool:
    """Whether H of a turned or flipped picture is another than the turned one of H: of one shaking hand, say."""
    height, width = physics.lr_size or (8, 8)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=physics.hr_shape((_pictures(physics), height, width, 3))), jnp.float32)
    turns = [(2, False), (0, True)] + [(1, False)] * (height == width)
    y = physics.apply(x)
    return any(float(jnp.abs(physics.turned(*turn).apply(x) - y).max()) > 1e-3 for turn in turns)


def _effect_from_beyond(reach: int, function: Any, lr_shape: tuple[int, ...], *, seen: int, at: int) -> float:
    """Returns the largest change in the block in the middle by pixels of about 1 that are farther away than a reach.

    Args:
      reach: LR pixels.
      function: Linear, of pictures whose blocks have a side of `seen` pixels; its results' have one of `at`.
      lr_shape: Of pictures whose blocks are pixels.
      seen: Pixels.
      at: Pixels.
    """
    n, height, width, channels = lr_shape
    row, col = height // 2, width // 2
    far = np.maximum(np.abs(np.arange(height) - row)[:, None], np.abs(np.arange(width) - col)) > reach
    far = np.kron(far, np.ones((seen, seen), bool))[None, :, :, None]
    given = far * np.random.default_rng(1).normal(size=(n, *far.shape[1:3], channels))
    result = np.asarray(function(jnp.asarray(given, jnp.float32)))
    return float(np.abs(result[:, at * row : at * (row + 1), at * col : at * (col + 1)]).max())


def _pictures(physics: Physics) -> int:
    """Returns the pictures that the physics is for, 2 where it is for any number."""
    sizes = {leaf.shape[0] for leaf, axis in _leaves(physics) if axis == 0}
    return max(sizes, default=2)


def _leaves(physics: Physics) -> list[tuple[Any, int | None]]:
    axes = jax.tree.leaves(physics.axes(), is_leaf=lambda leaf: leaf is None)
    return list(zip(jax.tree.leaves(physics), axes, strict=True))


def _each(physics: Physics, count: int) -> list[Any]:
    """Returns the physics of each picture alone."""
    leaves, structure = jax.tree.flatten(physics)
    axes = [axis for _, axis in _leaves(physics)]
    return [
        jax.tree.unflatten(structure, [a[i : i + 1] if axis == 0 else a for a, axis in zip(leaves, axes, strict=True)])
        for i in range(count)
    ]


def _dense(physics: Physics, hr_shape: tuple[int, ...], lr_shape: tuple[int, ...]) -> np.ndarray:
    """Returns H of one picture as a matrix."""
    size = int(np.prod(hr_shape[1:]))
    columns = jax.jit(jax.vmap(lambda e: physics.apply(e.reshape(1, *hr_shape[1:])).ravel()))
    return np.asarray(columns(np.eye(size, dtype=np.float32)), np.float64).T
