r"""One picture over several devices: each works on a window of it, and asks its neighbours for what it sees beyond.

The picture is cut into equal tiles along one or two axes of a mesh. A function of finite reach is applied to windows: a
tile and, from the neighbours (`lax.ppermute`), so much around it as an output pixel sees (the halo). A device at the
picture's edge turns its window so that the edge of the picture is the edge of the window: borders are then computed as
for the whole picture, by the very same program. What is left of the wrong side lies beyond the halo.

    isr-lite              the whole model has a finite reach: one exchange of LR pixels, then no device waits
    models with a norm,   the solver runs on the whole picture, of which each device keeps a tile, and XLA sums the norm
    or a solver in        over all; the network, H and its adjoint are applied to windows, in every stage. What is in
    Fourier space         closed form in Fourier space every device computes for the whole, from gathered tiles

For the second kind each device is given the LR picture, from which the start and the noise level are those of the
whole. Gathering takes the HR picture's memory on each device, and log2(pixels) operations a pixel that are not shared.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from isr_jax.inference.layout import AXES, TILES, Layout, choose_grid
from isr_jax.physics.names import make_physics
from isr_jax.physics.physics import Images, Physics
from isr_jax.solver.data_step import Amount, ClosedForm
from isr_jax.solver.unrolled import ISRResCNet


def make_layout(devices: Sequence[Any], model: ISRResCNet, physics: Physics | None, size: tuple[int, int]) -> Layout:
    """Returns how a picture of a size (LR) lies on the devices, or on the first of them if it is small."""
    halo = least_tile(model, physics)
    grid = choose_grid(size, halo, len(devices))
    mesh = jax.make_mesh(grid, AXES, (AxisType.Auto,) * 2, devices=list(devices[: grid[0] * grid[1]]))
    return Layout(mesh, size)


def least_tile(model: ISRResCNet, physics: Physics | None = None) -> int:
    """Returns the largest halo that a model asks for, LR pixels."""
    physics = _own_physics(model, physics)
    whole = model.reach(physics)
    if whole is not None and physics.lr_size is None:
        return whole
    return max(reach or 0 for reach in (model.prior.reach, physics.reach, physics.start_reach))


def sees_tiles(model: ISRResCNet, physics: Physics | None, *, estimates_noise: bool, num_stages: int) -> bool:
    """Whether the whole model is applied to windows: if its reach is finite and nothing is asked of all pixels."""
    physics = _own_physics(model, physics)
    asks = estimates_noise and model.uses_noise_std
    return not asks and physics.lr_size is None and model.reach(physics, num_stages) is not None


def spread_model(
    layout: Layout,
    model: ISRResCNet,
    lr: Float[Array, "batch _ _ channels"],
    *,
    physics: Physics | None = None,
    noise_std: Float[Array, " batch"] | None = None,
    num_stages: int | None = None,
    all_stages: bool = False,
) -> Float[Array, "*stages batch padded_hr_height padded_hr_width channels"]:
    """Super-resolves pictures as the model itself does, each device a tile of all of them; to be compiled.

    Args:
      layout: Of the pictures.
      model: The model, on every device.
      lr: As `place_picture` puts it there, in tiles where `sees_tiles`.
      physics: As for the model, as the rest.
      noise_std: Estimated from the whole pictures if not given.
      num_stages: Of the solver.
      all_stages: Return all estimates.
    Returns: HR pictures in tiles, filled up: `gather` crops them.
    """
    physics = _own_physics(model, physics)
    stages = model.config.num_stages if num_stages is None else num_stages
    if sees_tiles(model, physics, estimates_noise=noise_std is None, num_stages=stages):
        halo = model.reach(physics, stages)
        assert halo is not None

        def whole(known: Any, lr: Array) -> Array:
            model, physics, noise_std = known
            return model(lr, physics=physics, noise_std=noise_std, num_stages=stages, all_stages=all_stages)

        out = PartitionSpec(None, *TILES) if all_stages else TILES
        return _map_windows(whole, layout, halo, out)((model, physics, noise_std), (lr,))
    spread = copy.copy(model)
    if model.prior.reach is not None:
        spread.prior = SpreadPrior(model.prior, layout)
    if isinstance(model.data_step, ClosedForm):
        spread.data_step = GatheredClosedForm(layout)
    keep = functools.partial(_constrain, layout, TILES)
    everywhere = functools.partial(_constrain, layout, PartitionSpec())
    spread_physics = SpreadPhysics(inner=physics, layout=layout)
    observation, state = spread.prepare(lr, physics=spread_physics, noise_std=noise_std)
    if model.config.start_weights:  # XLA would distribute the transforms, badly
        state, shown = everywhere((state, observation.shown))
        observation = observation._replace(shown=keep(shown))
    state, iterates = spread.iterate(observation, keep(state), 0, stages)
    finish = functools.partial(spread.final_data_step, observation)
    return keep(_pad(jax.vmap(finish)(iterates) if all_stages else finish(state.x), layout))


class SpreadPrior(nnx.Module):
    """A prior of finite reach, applied to windows."""

    def __init__(self, inner: Any, layout: Layout):
        self.inner, self.layout = inner, layout

    @property
    def uses_noise_std(self) -> bool:
        """The inner one's."""
        return self.inner.uses_noise_std

    @property
    def uses_error_std(self) -> bool:
        """The inner one's."""
        return getattr(self.inner, "uses_error_std", False)

    @property
    def reach(self) -> int:
        """The inner one's."""
        return self.inner.reach

    def init_carry(self, lr_shape: tuple[Any, ...]) -> Any:
        """Hands on what the inner one does."""
        return self.inner.init_carry(lr_shape)

    def __call__(self, image: Array, lr_residual: Any = None, noise_std: Any = None, carried: Any = None) -> Any:
        """Returns what the inner one does for the whole picture."""

        def prior(known: Any, image: Array, lr_residual: Any, carried: Any) -> Any:
            inner, noise_std = known
            return inner(image, lr_residual, noise_std, carried)

        mapped = _on_windows(prior, self.layout, self.inner.reach)
        return mapped((self.inner, noise_std), image, lr_residual, carried)


class SpreadPhysics(Physics):
    """A physics, of which what has a finite reach is applied to windows."""

    inner: Physics
    layout: Layout = struct.field(pytree_node=False)

    @property
    def scale(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's, as the next ones."""
        return self.inner.scale

    @property
    def observes(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether there is an H."""
        return self.inner.observes

    @property
    def reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of H; None, too, where H differs from place to place."""
        return None if self.inner.lr_size is not None else self.inner.reach

    @property
    def start_reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the initial estimate, likewise."""
        return None if self.inner.lr_size is not None else self.inner.start_reach

    @property
    def error_std(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's."""
        return self.inner.error_std

    def axes(self) -> Any:
        """Returns those of the inner one."""
        return SpreadPhysics(inner=self.inner.axes(), layout=self.layout)

    def hr_shape(self, lr_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the inner one's."""
        return self.inner.hr_shape(lr_shape)

    def apply(self, x: Images) -> Images:
        """Returns H x."""
        return self._spread(lambda physics, x: physics.apply(x), self.reach)(x)

    def adjoint(self, y: Images) -> Images:
        """Returns H^T y."""
        return self._spread(lambda physics, y: physics.adjoint(y), self.reach)(y)

    def initial_estimate(self, y: Images) -> Images:
        """Returns the inner one's; where that has no finite reach, each device computes its tile from the whole y."""
        x = self._spread(lambda physics, y: physics.initial_estimate(y), self.start_reach)(y)
        return _constrain(self.layout, TILES, x)

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns the inner one's."""
        return self.inner.squared_norm(lr_shape)

    def as_blur(self) -> Any:
        """Returns the inner one's."""
        return self.inner.as_blur()

    def _spread(self, function: Callable[[Physics, Array], Array], halo: int | None) -> Callable[[Array], Array]:
        mapped = function if halo is None else _on_windows(function, self.layout, halo)
        return functools.partial(mapped, self.inner)


@dataclass(frozen=True)
class GatheredClosedForm(ClosedForm):
    """The closed form, computed by every device on the whole picture; each keeps its tile."""

    layout: Layout

    def __call__(self, physics: Physics, prepared: Any, y: Images, z: Images, amount: Amount) -> tuple[Images, Images]:
        """See `DataStep`."""
        layout = self.layout
        assert isinstance(physics, SpreadPhysics)

        def on_device(known: Any, tile: Images) -> Images:
            inner, prepared, y, amount = known
            for axis, name, count in zip((1, 2), AXES, layout.grid, strict=True):
                tile = lax.all_gather(tile, name, axis=axis, tiled=True) if count > 1 else tile
            x = _pad(ClosedForm()(inner, prepared, y, _crop(tile, layout), amount)[0], layout)
            for axis, name, count in zip((1, 2), AXES, layout.grid, strict=True):
                side = x.shape[axis] // count
                x = lax.dynamic_slice_in_dim(x, lax.axis_index(name) * side, side, axis)
            return x

        mapped = _shard_map(on_device, layout)
        u = _crop(mapped((physics.inner, prepared, y, amount), _pad(z, layout)), layout)
        return u, physics.apply(u) - y


def _on_windows(function: Callable[..., Any], layout: Layout, halo: int) -> Callable[..., Any]:
    """Returns a function of whole pictures, `function(known, *pictures)`, that each device computes on a window."""
    mapped = _map_windows(function, layout, halo)

    def whole(known: Any, *pictures: Any) -> Any:
        result = mapped(known, jax.tree.map(lambda x: _pad(x, layout), pictures))
        return jax.tree.map(lambda x: _crop(x, layout), result)

    return whole


def _map_windows(
    function: Callable[..., Any], layout: Layout, halo: int, out: PartitionSpec = TILES
) -> Callable[[Any, tuple[Any, ...]], Any]:
    """Maps `function(known, *pictures)` over the devices; pictures (N, _, _, C), LR or HR, are all tiles together."""

    def on_device(known: Any, pictures: tuple[Any, ...]) -> Any:
        windows = jax.tree.map(lambda x: _widen(x, layout, halo), pictures)
        return jax.tree.map(lambda x: _narrow(x, layout, halo), function(known, *windows))

    return _shard_map(on_device, layout, out)


def _shard_map(
    on_device: Callable[[Any, Any], Any], layout: Layout, out: PartitionSpec = TILES
) -> Callable[[Any, Any], Any]:
    return jax.shard_map(
        on_device,
        mesh=layout.mesh,
        in_specs=(PartitionSpec(), TILES),
        out_specs=out,
        check_vma=False,  # nothing is differentiated, and constants inside are the same everywhere
    )


def _widen(tile: Images, layout: Layout, halo: int) -> Images:
    """Returns the window around a tile, with what the neighbours send of theirs."""
    for axis, name, count, side, shift in _cuts(layout, halo):
        unit = tile.shape[axis] // side  # of this picture's pixels a LR pixel has
        before = lax.slice_in_dim(tile, (side - halo) * unit, side * unit, axis=axis)
        after = lax.slice_in_dim(tile, 0, halo * unit, axis=axis)
        before = lax.ppermute(before, name, [(i, i + 1) for i in range(count - 1)])
        after = lax.ppermute(after, name, [(i + 1, i) for i in range(count - 1)])
        tile = jnp.roll(jnp.concatenate([before, tile, after], axis), shift * unit, axis)
    return tile


def _narrow(window: Array, layout: Layout, halo: int) -> Array:
    """Returns the tile in the middle of a window, or of a window of every stage."""
    for axis, _, _, side, shift in _cuts(layout, halo):
        axis += window.ndim - 4
        unit = window.shape[axis] // (side + 2 * halo)
        window = jnp.roll(window, -shift * unit, axis)
        window = lax.slice_in_dim(window, halo * unit, (halo + side) * unit, axis=axis)
    return window


def _cuts(layout: Layout, halo: int) -> list[tuple[int, str, int, int, Array]]:
    """Returns, of each axis that is cut, its number and name, the tiles, their side, and how far to turn the window.

    The edges of the picture come to those of the window, in LR pixels; between them nothing is turned.
    """
    cuts = []
    for i, (name, count, side) in enumerate(zip(AXES, layout.grid, layout.tile, strict=True)):
        if count > 1 and halo:
            index, surplus = lax.axis_index(name), layout.padded[i] - layout.size[i]
            shift = jnp.where(index == 0, -halo, jnp.where(index == count - 1, halo + surplus, 0))
            cuts.append((i + 1, name, count, side, shift))
    return cuts


def _pad(x: Images, layout: Layout) -> Images:
    """Fills pictures up to all tiles."""
    unit = x.shape[-3] // layout.size[0]
    missing = [(full - side) * unit for full, side in zip(layout.padded, layout.size, strict=True)]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, missing[0]), (0, missing[1]), (0, 0)])


def _crop(x: Images, layout: Layout) -> Images:
    unit = x.shape[-3] // layout.padded[0]
    return x[..., : layout.size[0] * unit, : layout.size[1] * unit, :]


def _constrain(layout: Layout, spec: PartitionSpec, tree: Any) -> Any:
    """Says how pictures (and stages of them) lie on the devices."""

    def constrain(x: Array) -> Array:
        sharding = NamedSharding(layout.mesh, PartitionSpec(*(None,) * (x.ndim - 4), *spec))
        return lax.with_sharding_constraint(x, sharding)

    return jax.tree.map(constrain, tree)


def _own_physics(model: ISRResCNet, physics: Physics | None) -> Physics:
    return make_physics(model.config.physics, scale=model.config.scale) if physics is None else physics
