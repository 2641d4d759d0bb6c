"""Training batches as a pure function of (seed, step), and the pictures of a validation folder.

Nothing but the step is needed to resume: the order of an epoch, the crops, flips and rotations are all keyed on the
seed and the position. There are two placements. `stream_batches` reads sub-images from disk with tf.data;
`draw_batch` crops, inside the jitted step, from a `Memory` that holds every sub-image as uint8 on the device.
"""

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from isr_jax.config import DataConfig
from isr_jax.pictures.pairs import Pair, read_dataset

if typing.TYPE_CHECKING:
    from isr_jax.training.datasets import SubImages


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


def load_memory(sub_images: "SubImages", scale: int) -> Memory:
    """Decodes every sub-image into host arrays."""
    elements: list[Any] = list(sub_images.dataset.as_numpy_iterator())
    size = np.array([e["lr"].shape[:2] for e in elements], np.int32)
    (height, width), channels = size.max(axis=0), elements[0]["lr"].shape[-1]
    lr = np.zeros((len(elements), height, width, channels), np.uint8)
    hr = np.zeros((len(elements), height * scale, width * scale, channels), np.uint8)
    for i, element in enumerate(elements):
        h, w = size[i]
        lr[i, :h, :w], hr[i, : h * scale, : w * scale] = element["lr"], element["hr"]
    sources = np.repeat(np.arange(len(sub_images.sources)), sub_images.sources)
    origins = np.stack([sources, [e["picture"] for e in elements]], axis=1)
    pictures = np.concatenate([[0], np.cumsum(np.diff(origins, axis=0).any(axis=1))])
    areas = np.array([e["picture_area"] for e in elements], np.float64)
    textures = np.array([_texture(e["lr"]) * e["lr"].size for e in elements])
    # A picture is drawn in proportion to sqrt(area) x texture, and its sub-images in proportion to theirs.
    total = np.bincount(pictures, textures)[pictures]
    pixels = np.bincount(pictures, [e["lr"].size for e in elements])[pictures]
    weights = np.sqrt(areas) * total / pixels * textures / np.maximum(total, 1e-9) + 1e-9
    return Memory(lr, hr, size, np.cumsum(weights / weights.sum()).astype(np.float32))


def _texture(picture: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels, grey levels."""
    luma = picture.astype(np.float32).mean(axis=-1)
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())


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


def stream_batches(
    sub_images: "SubImages", config: DataConfig, *, scale: int, seed: int, first_step: int, shard: int, shards: int
) -> Iterator[Batch]:
    """Yields this process's share of the batches from `first_step` on, without end.

    Args:
      sub_images: What is read.
      config: Batch and patch size, candidates, augmentation, size of the shuffle.
      scale: HR size over LR size.
      seed: Of the run.
      first_step: Step of the first batch.
      shard: Index of the process.
      shards: Number of processes.
    """
    import tensorflow as tf

    rows, patch, count = config.batch_size, config.drawn_size(scale), sub_images.size
    share = rows // shards
    per_epoch = steps_per_epoch(count, rows)
    first_epoch, position = divmod(first_step, per_epoch)

    def epoch(number: Any) -> tf.data.Dataset:
        order = sub_images.dataset.shuffle(
            min(count, config.shuffle_buffer), seed=number + tf.int64.limits[0] // 2 + seed * 1_000_003
        )
        skipped = tf.where(number == first_epoch, tf.cast(position * rows, tf.int64), tf.constant(0, tf.int64))
        return order.repeat(-(-rows // count)).take(per_epoch * rows).skip(skipped)

    def mine(number: Any, _: Any) -> Any:
        return (number % rows) // share == shard

    def patches(number: Any, element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        key = tf.stack([tf.cast(seed, tf.int64), number])
        size = tf.shape(element["lr"])[:2]
        fractions = tf.random.stateless_uniform((config.candidates, 2), key)
        corners = tf.cast(fractions * tf.cast(size - patch + 1, tf.float32), tf.int32)
        corners = tf.minimum(corners, size - patch)
        lr = tf.stack([_tf_crop(element["lr"], corners[c], patch) for c in range(config.candidates)])
        best = tf.argmax(tf.math.reduce_std(tf.reduce_mean(tf.cast(lr, tf.float32), -1), (1, 2)))
        pair = {"lr": lr[best], "hr": _tf_crop(element["hr"], corners[best] * scale, patch * scale)}
        if config.augment:
            turn = tf.random.stateless_uniform((3,), key + tf.constant([0, 1 << 40], tf.int64)) < 0.5
            pair = {k: _tf_turned(v, turn) for k, v in pair.items()}
        return pair

    # Python owns the epoch's number only through the range: one graph, whatever the number of epochs.
    batches: Any = (
        tf.data.Dataset.range(first_epoch, tf.int64.max)
        .flat_map(epoch)
        .enumerate(start=first_step * rows)
        .filter(mine)  # pyright: ignore[reportArgumentType]
        .map(patches, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(share, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    yield from batches.as_numpy_iterator()


def _tf_crop(picture, corner, size):
    return picture[corner[0] : corner[0] + size, corner[1] : corner[1] + size]


def _tf_turned(picture, turn):
    import tensorflow as tf

    picture = tf.where(turn[0], picture[::-1], picture)
    picture = tf.where(turn[1], picture[:, ::-1], picture)
    return tf.where(turn[2], tf.transpose(picture, (1, 0, 2)), picture)


def validation_pairs(folder: str, scale: int, channels: int) -> list[Pair]:
    """Reads the pictures of a validation folder by the rules of every score (`pictures.pairs`)."""
    return list(read_dataset(Path(folder), scale, channels=channels).pairs)
