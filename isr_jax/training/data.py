"""Training batches as a pure function of (seed, step), and the pictures of a validation folder.

Nothing but the step is needed to resume: the order of an epoch, the crops, flips and rotations are all keyed on the
seed and the position. There are two placements. `training.datasets` streams sub-images from disk; `draw_batch` crops,
inside the jitted step, from a `Memory` that holds every sub-image as uint8 on the device (`training.memory`).
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from isr_jax.config import DataConfig
from isr_jax.pictures.images import name_left_out
from isr_jax.pictures.pairs import Pair, list_unread, read_dataset
from isr_jax.training.sub_images import seen_by

Batch = dict[str, Any]
"""{"lr": uint8 (N, p, p, C), "hr": uint8 (N, s p, s p, C)}, p = `DataConfig.drawn_size`."""


class Memory(NamedTuple):
    """Every sub-image, decoded, in arrays of one size; smaller ones lie in the top left corner."""

    lr: UInt8[Array | np.ndarray, "count lr_height lr_width channels"]
    hr: UInt8[Array | np.ndarray, "count hr_height hr_width channels"]
    size: Int[Array | np.ndarray, "count 2"]
    """Valid height and width of each, in LR pixels."""
    cumulative: Float[Array | np.ndarray, " count"]
    """Cumulative probability with which each is drawn where data.sampling="texture"."""


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Returns the whole batches in an epoch of `count` sub-images; at least 1 (a small set is repeated)."""
    return max(1, count // batch_size)


def draw_batch(
    memory: Memory, step: Int[Array, ""], shard: Int[Array, ""] | int, shards: int, *, seed: int, config: DataConfig
) -> Batch:
    """Draws, crops and turns one device's share of the batch of `step`; runs inside jit.

    Every device draws the positions of the whole batch, and cuts its own rows: the batch does not depend on `shards`.

    Args:
      memory: All sub-images.
      step: Optimiser iteration, from 0.
      shard: Which of the `shards` equal parts of the batch to cut.
      shards: Number of devices, over all processes.
      seed: Of the run.
      config: Batch and patch size, sampling, candidates, augmentation.
    Returns: The patches, uint8.
    """
    rows, count = config.batch_size, memory.lr.shape[0]
    scale = memory.hr.shape[1] // memory.lr.shape[1]
    patch = config.drawn_size(scale)
    key = jax.random.fold_in(jax.random.key(seed), step)
    which_key, where_key, turn_key = jax.random.split(key, 3)
    if config.sampling == "texture":
        index = jnp.searchsorted(memory.cumulative, jax.random.uniform(which_key, (rows,)))
        index = jnp.minimum(index, count - 1)
    else:
        epoch, position = step // steps_per_epoch(count, rows), step % steps_per_epoch(count, rows)
        order = jax.random.permutation(jax.random.fold_in(jax.random.key(seed + 1), epoch), count)
        index = order[(position * rows + jnp.arange(rows)) % count]
    fractions = jax.random.uniform(where_key, (rows, config.candidates, 2))
    free = memory.size[index] - patch + 1
    corners = jnp.minimum((fractions * free[:, None]).astype(jnp.int32), free[:, None] - 1)
    turns = jax.random.bernoulli(turn_key, 0.5, (rows, 3)) & config.augment

    share = rows // shards
    index, corners, turns = (
        jax.lax.dynamic_slice_in_dim(a, shard * share, share, axis=0) for a in (index, corners, turns)
    )

    def crop(pictures: Array | np.ndarray, i: Array, corner: Array, size: int) -> Array:
        start = (i, corner[0], corner[1], jnp.zeros((), corner.dtype))
        return jax.lax.dynamic_slice(jnp.asarray(pictures), start, (1, size, size, pictures.shape[-1]))[0]

    def one(i: Array, candidates: Array, turn: Array) -> tuple[Array, Array]:
        lr = jax.vmap(lambda corner: crop(memory.lr, i, corner, patch))(candidates)
        best = jnp.argmax(lr.astype(jnp.float32).mean(-1).std((1, 2)))
        hr = crop(memory.hr, i, candidates[best] * scale, patch * scale)
        return _turned(lr[best], turn), _turned(hr, turn)

    lr, hr = jax.vmap(one)(index.astype(jnp.int32), corners, turns)
    return {"lr": lr, "hr": hr}


def _turned(picture: Array, turn: Array) -> Array:
    """Flips vertically, horizontally and over the diagonal as the three flags say: the 8 symmetries of a square."""
    picture = jnp.where(turn[0], picture[::-1], picture)
    picture = jnp.where(turn[1], picture[:, ::-1], picture)
    return jnp.where(turn[2], picture.swapaxes(0, 1), picture)


def validation_pairs(folder: str, scale: int, channels: int, camera: str = "") -> list[Pair]:
    """Reads the pictures of a validation folder by the rules of every score (`pictures.pairs`).

    Where it has no LR pictures, the physics of one's own `camera`, "module:Name", makes them; imresize if it is empty.
    """
    dataset = read_dataset(Path(folder), scale, channels=channels)
    pairs = list(dataset.pairs)
    if camera and dataset.lr_source == "imresize":
        pairs = [seen_by(camera, pair, scale) for pair in pairs]
    name_left_out(list_unread(Path(folder), scale))
    return pairs
