"""Sub-images kept on disk and streamed from there, for what does not fit into memory: a TFDS builder and tf.data.

Pixels are stored as raw uint8: reading them costs a copy.
"""

import logging
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isr_jax.config import DataConfig, UserError
from isr_jax.training.data import Batch, steps_per_epoch
from isr_jax.training.sub_images import VERSION, Cutting, Source, cache_folder, fingerprint, open_sources, usable_pairs
from isr_jax.training.tfds import tf, tfds


class SubImages(NamedTuple):
    """A built set of sub-images."""

    places: tuple[Path, ...]
    """Where they are on disk."""
    dataset: tf.data.Dataset
    """Elements {"lr", "hr": uint8 (h, w, C)}, in a fixed order."""
    size: int
    """Number of elements."""
    fingerprint: str
    """Changes with the content of the pictures and of measured kernels, the scale, the channels and the way they are
    cut."""


def sub_images(config: DataConfig, *, scale: int, channels: int, camera: str = "") -> SubImages:
    """Opens the sub-images of all of `config.train`, building those that are not in the cache.

    Args:
      config: Names the sources, the size of the sub-images and the cache.
      scale: HR size over LR size.
      channels: 3 for colour, 1 for grey.
      camera: As `Cutting` has it.
    Returns: The sub-images of all sources, one after the other.
    Raises:
      UserError: If a source is missing, has no readable picture, its LR and HR pictures do not match, or the cache
        cannot be written.
    """
    cutting = Cutting.of(config, scale=scale, channels=channels, camera=camera)
    sources = open_sources(config, scale)
    builders = [_build(source, cutting, cache_folder(config)) for source in sources]
    read = tfds.ReadConfig(interleave_cycle_length=1, shuffle_reshuffle_each_iteration=False)
    dataset, *rest = [b.as_dataset(split="train", shuffle_files=False, read_config=read) for b in builders]
    for part in rest:
        dataset = dataset.concatenate(part)
    size = sum(builder.info.splits["train"].num_examples for builder in builders)
    places = tuple(Path(builder.data_path) for builder in builders)
    return SubImages(places, dataset, size, fingerprint(map(cutting.digest, sources), config))


# ---------------------------------------------------------------------------------------------------------------------
# Batches.
# ---------------------------------------------------------------------------------------------------------------------


def stream_batches(
    sub_images: SubImages, config: DataConfig, *, scale: int, seed: int, first_step: int, shard: int, shards: int
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
    Raises:
      UserError: If what is on disk is damaged.
    """
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
    try:
        yield from batches.as_numpy_iterator()
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        damaged = " or ".join(map(str, sub_images.places))
        raise UserError(f"{damaged}: damaged; remove it, and the same command cuts the pictures anew") from error


def _tf_crop(picture, corner, size):
    return picture[corner[0] : corner[0] + size, corner[1] : corner[1] + size]


def _tf_turned(picture, turn):
    picture = tf.where(turn[0], picture[::-1], picture)
    picture = tf.where(turn[1], picture[:, ::-1], picture)
    return tf.where(turn[2], tf.transpose(picture, (1, 0, 2)), picture)


# ---------------------------------------------------------------------------------------------------------------------
# The builder.
# ---------------------------------------------------------------------------------------------------------------------


class _Config(tfds.core.BuilderConfig):
    """What the builder is to cut; its name holds the digest."""

    def __init__(self, *, source: Source, cutting: Cutting, **kwargs: Any):
        super().__init__(description=source.name, **kwargs)
        self.source, self.cutting = source, cutting


class AlignedSubImages(tfds.core.GeneratorBasedBuilder):
    """Cuts pairs of pictures into aligned sub-images."""

    VERSION = tfds.core.Version(VERSION)
    builder_config: Any

    def _info(self) -> tfds.core.DatasetInfo:
        channels = self.builder_config.cutting.channels
        features = {
            "hr": tfds.features.Tensor(shape=(None, None, channels), dtype=np.uint8, encoding="bytes"),
            "lr": tfds.features.Tensor(shape=(None, None, channels), dtype=np.uint8, encoding="bytes"),
            "picture": np.int64,
            "picture_area": np.int64,
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            description="Aligned LR and HR sub-images.",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        cutting, key = self.builder_config.cutting, 0
        tile, s = cutting.tile, cutting.scale
        for used, (_, pair) in enumerate(usable_pairs(self.builder_config.source, cutting)):
            height, width = pair.hr.shape[:2]
            for y, x in cutting.places(height, width):
                element = {
                    "hr": pair.hr[y : y + tile, x : x + tile],
                    "lr": pair.lr[y // s : (y + tile) // s, x // s : (x + tile) // s],
                    "picture": used,
                    "picture_area": height * width,
                }
                yield key, element
                key += 1


def _is_whole(folder: Path, builder: Callable[[Path], Any]) -> bool:
    """Whether all files of a built set are there, as long as they are to be."""
    try:
        split = builder(folder).info.splits["train"]
        # A record has 16 bytes of its length and of two sums beside the example.
        expected = split.num_bytes + 16 * split.num_examples
        return sum(Path(file).stat().st_size for file in split.filepaths) == expected
    except Exception:  # of damaged files TFDS raises nearly everything
        return False


def _settle(folder: Path) -> None:
    """Makes sure that all files are on the disk before their folder gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _build(source: Source, cutting: Cutting, cache: Path) -> Any:
    """Returns the builder of one source, its sub-images in the cache."""
    name = f"x{cutting.scale}_{cutting.digest(source)}" + ("_strict" if cutting.strict else "")

    def builder(directory: Path) -> Any:
        return AlignedSubImages(data_dir=str(directory), config=_Config(name=name, source=source, cutting=cutting))

    final = cache / name
    if not _is_whole(final, builder):
        if final.exists():
            print(f"isr-jax: {final} is damaged: it is made anew", file=sys.stderr)
        # Built beside and renamed: a build that was killed is never taken for a whole one, and of two processes that
        # build at once one wins.
        building = cache / f".{name}.{uuid.uuid4().hex[:8]}"
        try:
            cache.mkdir(parents=True, exist_ok=True)
            logging.getLogger("absl").setLevel(logging.ERROR)
            tfds.disable_progress_bar()
            print(f"isr-jax: cutting {len(source.pairs)} pictures of {source.name} into {final}", file=sys.stderr)
            builder(building).download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False, verify_ssl=True)
            )
            _settle(building)
            try:
                building.rename(final)
            except OSError:
                if not _is_whole(final, builder):
                    shutil.rmtree(final)
                    building.rename(final)
        except (OSError, RuntimeError) as error:  # TFDS makes RuntimeErrors of tensorflow's, as of a full disk
            if not _is_whole(final, builder):
                reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
                raise UserError(f"{cache}: cannot write the cache ({reason}); set --data.cache-dir") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return builder(final)
