"""Training data: pictures -> aligned LR and HR sub-images, cut once by a TFDS builder and kept in a cache.

Decoding a large picture for one small patch wastes nearly all of it, so pictures are cut into overlapping sub-images
when the data set is built. The LR side is made from the whole picture (or read: `pictures.pairs`), so that a
sub-image's border is no border. Pixels are stored as raw uint8: reading them costs a copy.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isr_jax.config import ConfigError, DataConfig, UserError
from isr_jax.pictures.pairs import Pair, PairFiles, as_channels, list_pairs, match_pair
from isr_jax.startup import silent_stderr, user_cache

# The first import of tensorflow logs what nobody asked for, whatever its log level; set to 0, the level asks for it.
loud = os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0"
with contextlib.nullcontext() if loud else silent_stderr():
    import tensorflow as tf
    import tensorflow_datasets as tfds


class SubImages(NamedTuple):
    """A built set of sub-images."""

    dataset: tf.data.Dataset
    """Elements {"lr", "hr": uint8 (h, w, C), "picture": its index, "picture_area": HR pixels}, in a fixed order."""
    size: int
    """Number of elements."""
    fingerprint: str
    """Changes with the content of the pictures and of measured kernels, the scale, the channels and the way they are
    cut."""
    sources: tuple[int, ...]
    """Number of elements of each source, in their order; pictures are numbered within theirs."""


def sub_images(config: DataConfig, *, scale: int, channels: int) -> SubImages:
    """Opens the sub-images of all of `config.train`, building those that are not in the cache.

    Args:
      config: Names the folders or TFDS data sets, the size of the sub-images and the cache.
      scale: HR size over LR size.
      channels: 3 for colour, 1 for grey.
    Returns: The sub-images of all sources, one after the other.
    Raises:
      UserError: If a source is missing, has no readable picture, or its LR and HR pictures do not match.
    """
    if not config.train:
        raise UserError("data.train is empty; name at least one folder of pictures, as --data.train photos")
    tile = config.tile_size // scale * scale
    least = config.drawn_size(scale) * scale
    parts, sizes, names = [], [], []
    for source in config.train:
        builder, digest = _build(source, config, scale=scale, channels=channels, tile=tile, least=least)
        read = tfds.ReadConfig(interleave_cycle_length=1, shuffle_reshuffle_each_iteration=False)
        parts.append(builder.as_dataset(split="train", shuffle_files=False, read_config=read))
        sizes.append(builder.info.splits["train"].num_examples)
        names.append(digest)
    if kernels := config.degradation.kernels:
        try:
            names.append(hashlib.sha256(Path(kernels).read_bytes()).hexdigest())
        except OSError as error:
            raise ConfigError(f"data.degradation.kernels, {kernels}: cannot be read ({error.strerror})") from None
    dataset = parts[0]
    for part in parts[1:]:
        dataset = dataset.concatenate(part)
    fingerprint = hashlib.sha256("|".join(names).encode()).hexdigest()[:16]
    return SubImages(dataset, sum(sizes), fingerprint, tuple(sizes))


def cache_folder(config: DataConfig) -> Path:
    """Returns where sub-images are kept."""
    given = config.cache_dir or os.environ.get("ISR_JAX_CACHE")
    return Path(given).expanduser().absolute() if given else user_cache()


def cut(length: int, tile: int, scale: int) -> list[int]:
    """Returns where sub-images of `tile` pixels start along a side, evenly, covering it, at multiples of `scale`."""
    if length <= tile:
        return [0]
    count = -(-length // tile)
    return [round((length - tile) * i / (count - 1)) // scale * scale for i in range(count)]


# ---------------------------------------------------------------------------------------------------------------------
# The builder.
# ---------------------------------------------------------------------------------------------------------------------


class _Config(tfds.core.BuilderConfig):
    """What the builder is to cut; its name holds the fingerprint."""

    def __init__(self, *, pairs: Any, scale: int, channels: int, tile: int, least: int, strict: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.pairs, self.scale, self.channels = pairs, scale, channels
        self.tile, self.least, self.strict = tile, least, strict


class AlignedSubImages(tfds.core.GeneratorBasedBuilder):
    """Cuts pairs of pictures into aligned sub-images."""

    VERSION = tfds.core.Version("1.0.0")
    builder_config: Any

    def _info(self) -> tfds.core.DatasetInfo:
        channels = self.builder_config.channels
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
        config, key, used, skipped = self.builder_config, 0, 0, []
        s = config.scale
        for picture in config.pairs:
            try:
                pair = picture.read(s, channels=config.channels, least=config.least, convert=True)
            except UserError as error:
                if config.strict:
                    raise
                skipped.append(str(error))
                continue
            lr, hr = pair.lr, pair.hr
            height, width = hr.shape[:2]
            for y in cut(height, config.tile, s):
                for x in cut(width, config.tile, s):
                    yield (
                        key,
                        {
                            "hr": hr[y : y + config.tile, x : x + config.tile],
                            "lr": lr[y // s : (y + config.tile) // s, x // s : (x + config.tile) // s],
                            "picture": used,
                            "picture_area": height * width,
                        },
                    )
                    key += 1
            used += 1
        for message in skipped:
            print(f"isr-jax: skipped {message}", file=sys.stderr)
        if skipped:
            print(f"isr-jax: {len(skipped)} pictures skipped, {used} used", file=sys.stderr)
        if not used:
            raise UserError(
                f"{config.description}: none of its {len(skipped)} pictures can be used; the first: {skipped[0]}"
            )


class _DecodedPair(NamedTuple):
    """A pair of pictures of a TFDS data set; read as `PairFiles` are."""

    name: str
    lr: np.ndarray
    hr: np.ndarray

    def read(self, scale: int, *, channels: int, least: int, convert: bool) -> Pair:
        del convert  # such sets have 8 bits and no transparency
        hr, lr = as_channels(self.hr, channels), as_channels(self.lr, channels)
        hr, lr = match_pair(hr, lr, scale, least=least, names=(self.name, self.name))
        return Pair(name=self.name, hr=hr, lr=lr)


class _TfdsPictures:
    """The pictures of a TFDS data set of pairs, read one after the other."""

    def __init__(self, name: str):
        try:
            self._builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
        except (tfds.core.DatasetNotFoundError, ValueError):
            raise UserError(f"{name}: neither a folder nor a data set of TFDS; as div2k/bicubic_x4") from None
        try:
            self._builder.download_and_prepare()
        except OSError as error:
            raise UserError(f"{name}: cannot be fetched ({error}); see $TFDS_DATA_DIR") from None
        split = self._builder.info.splits["train"]
        self.content = f"{self._builder.info.full_name}|{split.num_examples}|{split.num_bytes}"
        self._size = split.num_examples

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[_DecodedPair]:
        read = tfds.ReadConfig(interleave_cycle_length=1)
        pairs = self._builder.as_dataset(split="train", shuffle_files=False, read_config=read)  # pyright: ignore
        for i, pair in enumerate(tfds.as_numpy(pairs)):
            yield _DecodedPair(f"{self._builder.info.full_name}, picture {i}", pair["lr"], pair["hr"])


def _build(source: str, config: DataConfig, *, scale: int, channels: int, tile: int, least: int) -> tuple[Any, str]:
    """Returns the builder of one source, its sub-images in the cache, and a digest of content and recipe."""
    if source.startswith("div2k/") and not Path(source).exists():
        pairs = _TfdsPictures(source)
        content = pairs.content
    else:
        pairs = list_pairs(Path(source), scale)
        content = _digest(pairs)
    recipe = f"{AlignedSubImages.VERSION}|{scale}|{channels}|{tile}|{least}|{content}"
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    name = f"x{scale}_{digest}" + ("_strict" if config.strict else "")
    cache = cache_folder(config)

    def builder(directory: Path) -> Any:
        builder_config = _Config(
            name=name,
            description=source,
            pairs=pairs,
            scale=scale,
            channels=channels,
            tile=tile,
            least=least,
            strict=config.strict,
        )
        return AlignedSubImages(data_dir=str(directory), config=builder_config)

    final = cache / name
    if not final.exists():
        # Built beside and renamed: a build that was killed is never taken for a whole one, and of two processes that
        # build at once one wins.
        building = cache / f".{name}.{uuid.uuid4().hex[:8]}"
        try:
            cache.mkdir(parents=True, exist_ok=True)
            logging.getLogger("absl").setLevel(logging.ERROR)
            tfds.disable_progress_bar()
            print(f"isr-jax: cutting {len(pairs)} pictures of {source} into {final}", file=sys.stderr)
            builder(building).download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False, verify_ssl=True)
            )
            building.rename(final)
        except (OSError, RuntimeError) as error:  # TFDS makes RuntimeErrors of tensorflow's, as of a full disk
            if not final.exists():
                reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
                raise UserError(f"{cache}: cannot write the cache ({reason}); set --data.cache-dir") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return builder(final), digest


def _digest(pairs: list[PairFiles]) -> str:
    """Returns a digest of the names and bytes of the pictures."""
    digest = hashlib.sha256()
    reduced = sorted((pair.lr for pair in pairs if pair.lr is not None), key=lambda path: path.stem)
    for path in [*(pair.hr for pair in pairs), *reduced]:
        digest.update(path.name.encode() + b"\0")
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()
