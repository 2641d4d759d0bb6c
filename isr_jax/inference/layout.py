"""How one picture lies on several devices: a tile on each of a mesh, or all of it on every one."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from isr_jax.config import ConfigError

AXES = ("rows", "columns")
"""Names of the mesh's axes."""

TILES = PartitionSpec(None, *AXES)

ALL = "all"
"""All devices there are, of all processes."""


class Layout(NamedTuple):
    """Which device has which part of a picture: tile (i, j) that of the mesh at (i, j), the last ones filled up."""

    mesh: Mesh | AbstractMesh
    size: tuple[int, int]
    """Height and width of the LR picture."""

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles along the height and the width."""
        return self.mesh.shape[AXES[0]], self.mesh.shape[AXES[1]]

    @property
    def devices(self) -> int:
        """How many have a tile."""
        return self.grid[0] * self.grid[1]

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of a tile, LR pixels."""
        return -(-self.size[0] // self.grid[0]), -(-self.size[1] // self.grid[1])

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of all tiles together."""
        return self.tile[0] * self.grid[0], self.tile[1] * self.grid[1]

    def window(self, halo: int) -> tuple[int, int]:
        """Returns the height and width of what a device works on for one tile."""
        rows, cols = (t + 2 * halo * (n > 1) for t, n in zip(self.tile, self.grid, strict=True))
        return rows, cols

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        """Returns how arrays lie on the devices."""
        assert isinstance(self.mesh, Mesh)
        return NamedSharding(self.mesh, spec)


def choose_devices(devices: int | str) -> tuple[Any, ...]:
    """Returns so many devices, or "all", of all processes that `jax.distributed` joined.

    Raises:
      ConfigError: If there are fewer, or some process would have none.
    """
    there = jax.devices()
    if devices == ALL:
        return tuple(there)
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise ConfigError(f"`devices` is {devices!r}; give a whole number of at least 1, or all")
    if devices > len(there):
        raise ConfigError(f"`devices` is {devices}; there are {len(there)} ({there[0].platform}): give at most that")
    if jax.process_count() > 1 and devices != len(there):
        raise ConfigError(f"`devices` is {devices}; {jax.process_count()} processes share a picture over all devices")
    return tuple(there[:devices])


def choose_grid(size: tuple[int, int], halo: int, devices: int) -> tuple[int, int]:
    """Returns into how many rows and columns of tiles a picture is cut: as many as possible, of the least windows.

    A halo comes from the next tile alone, so a tile is no smaller; a small picture is cut into fewer than asked for.

    Args:
      size: Height and width of the LR picture.
      halo: How far an output pixel sees, LR pixels.
      devices: Most tiles.
    """

    def fits(side: int, count: int) -> bool:
        tile = -(-side // count)
        return count == 1 or side - tile * (count - 1) >= max(1, halo)  # the last is the smallest

    def key(grid: tuple[int, int]) -> tuple[int, int]:
        rows, cols = (-(-side // n) + 2 * halo * (n > 1) for side, n in zip(size, grid, strict=True))
        return -grid[0] * grid[1], rows * cols

    grids = [(r, c) for r in range(1, devices + 1) for c in range(1, devices // r + 1)]
    return min((grid for grid in grids if fits(size[0], grid[0]) and fits(size[1], grid[1])), key=key)


def place(layout: Layout, tree: Any) -> Any:
    """Puts a copy of all arrays on every device."""
    return jax.tree.map(lambda a: _put(np.asarray(a), layout.sharding(PartitionSpec())), tree)


def place_picture(
    layout: Layout, lr: Float[np.ndarray, "batch height width channels"], *, tiles: bool
) -> Float[Array, "batch padded_height padded_width channels"]:
    """Puts pictures on the devices: to each its tile, filled up to `Layout.padded`, or else the whole."""
    if not tiles:
        return _put(lr, layout.sharding(PartitionSpec()))
    (height, width), (rows, cols) = layout.size, layout.padded
    padded = np.pad(lr, ((0, 0), (0, rows - height), (0, cols - width), (0, 0)))
    return _put(padded, layout.sharding(TILES))


def gather(layout: Layout, hr: Array, scale: int) -> Float[np.ndarray, "*stages batch hr_height hr_width channels"]:
    """Returns the picture that `spread_model` computed, whole, on every process."""
    pixels: Any = hr
    if not hr.is_fully_addressable:
        pixels = multihost_utils.process_allgather(hr, tiled=True)
    return np.asarray(pixels)[..., : layout.size[0] * scale, : layout.size[1] * scale, :]


def _put(array: np.ndarray, sharding: NamedSharding) -> Array:
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
