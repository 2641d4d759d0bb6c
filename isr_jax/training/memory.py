"""All sub-images in memory: pictures read by Pillow in threads, cut, and kept as plain arrays in the cache.

Nothing here needs tensorflow. An entry of the cache is a folder with one .npy an array, mapped into memory when read.
"""

import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isr_jax.config import DataConfig, UserError
from isr_jax.training.data import Memory
from isr_jax.training.sub_images import (
    Cutting,
    Source,
    cache_folder,
    fingerprint,
    in_threads,
    open_sources,
    usable_pairs,
)


class InMemory(NamedTuple):
    """A set of sub-images."""

    memory: Memory
    size: int
    """Number of sub-images."""
    fingerprint: str
    """Changes with the content of the pictures and of measured kernels, the scale, the channels and the way they are
    cut; the same as that of `training.datasets`."""


def load_memory(config: DataConfig, *, scale: int, channels: int, camera: str = "") -> InMemory:
    """Opens the sub-images of all of `config.train`, cutting them if they are not in the cache.

    Where the cache cannot be written, that is said on standard error and the arrays are in memory alone.

    Args:
      config: Names the sources, the size of the sub-images and the cache.
      scale: HR size over LR size.
      channels: 3 for colour, 1 for grey.
      camera: As `Cutting` has it.
    Returns: The sub-images of all sources, one after the other, as host arrays that cannot be written to.
    Raises:
      UserError: If a source is missing, has no readable picture, or its LR and HR pictures do not match.
    """
    cutting = Cutting.of(config, scale=scale, channels=channels, camera=camera)
    sources = open_sources(config, scale)
    digests = [cutting.digest(source) for source in sources]
    mark = fingerprint(digests, config)
    key = fingerprint(digests, DataConfig())  # without measured kernels: no sub-image depends on them
    entry = cache_folder(config) / (f"memory_x{scale}_{key}" + ("_strict" if cutting.strict else ""))
    memory = _read(entry)
    if memory is None:
        count = sum(len(source.pairs) for source in sources)
        print(f"isr-jax: cutting {count} pictures of {', '.join(s.name for s in sources)}", file=sys.stderr)
        memory = _cut(sources, cutting)
        try:
            _write(entry, memory)
        except OSError as error:
            reason = error.strerror or str(error)
            print(
                f"isr-jax: {entry.parent}: cannot write the cache ({reason}); the pictures will be cut again next time,"
                " or set --data.cache-dir",
                file=sys.stderr,
            )
        else:
            memory = _read(entry) or memory  # what is mapped can leave the memory again
    return InMemory(memory, len(memory.lr), mark)


def _cut(sources: list[Source], cutting: Cutting) -> Memory:
    """Reads and cuts all pictures. Their sizes are asked first, so that the arrays are made once and filled."""
    s, tile, channels = cutting.scale, cutting.tile, cutting.channels
    sizes = [list(in_threads(lambda files: files.lr_size(s, least=cutting.least), source.pairs)) for source in sources]
    known = [size for some in sizes for size in some if size is not None]
    count = sum(len(cutting.places(h * s, w * s)) for h, w in known)
    height, width = (min(tile // s, max((size[axis] for size in known), default=1)) for axis in (0, 1))
    lr = np.zeros((count, height, width, channels), np.uint8)
    hr = np.zeros((count, height * s, width * s, channels), np.uint8)
    size, pictures, areas, textures = [], [], [], []
    picture = 0
    for source, expected in zip(sources, sizes, strict=True):
        for index, pair in usable_pairs(source, cutting):
            if pair.lr.shape[:2] != expected[index]:
                raise UserError(f"{source.name}: {pair.name} has changed while it was read; start again")
            for y, x in cutting.places(*pair.hr.shape[:2]):
                tile_lr = pair.lr[y // s : (y + tile) // s, x // s : (x + tile) // s]
                tile_hr = pair.hr[y : y + tile, x : x + tile]
                h, w = tile_lr.shape[:2]
                lr[len(size), :h, :w], hr[len(size), : h * s, : w * s] = tile_lr, tile_hr
                size.append((h, w))
                pictures.append(picture)
                areas.append(pair.hr.shape[0] * pair.hr.shape[1])
                textures.append(_texture(tile_lr) * tile_lr.size)
            picture += 1
    valid = np.array(size, np.int32)
    height, width = valid.max(axis=0)
    # Fewer and smaller than foreseen where a picture was skipped.
    lr, hr = (np.ascontiguousarray(a[: len(size), : height * f, : width * f]) for a, f in ((lr, 1), (hr, s)))
    # A picture is drawn in proportion to sqrt(area) x texture, and its sub-images in proportion to theirs.
    total = np.bincount(pictures, textures)[pictures]
    pixels = np.bincount(pictures, valid.prod(axis=1) * channels)[pictures]
    weights = np.sqrt(np.array(areas, np.float64)) * total / pixels * textures / np.maximum(total, 1e-9) + 1e-9
    return Memory(lr, hr, valid, np.cumsum(weights / weights.sum()).astype(np.float32))


def _texture(picture: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels, grey levels."""
    # In C order: of others NumPy sums in another order, and the last bit of a weight would depend on who made them.
    luma = picture.astype(np.float32, order="C").mean(axis=-1)
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())


def _write(entry: Path, memory: Memory) -> None:
    """Writes the arrays beside and renames: a killed build is never taken for a whole one; of two, one wins."""
    building = entry.parent / f".{entry.name}.{uuid.uuid4().hex[:8]}"
    try:
        building.mkdir(parents=True)
        for name, array in memory._asdict().items():
            with (building / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
        try:
            building.rename(entry)
        except OSError:
            if _read(entry) is None:  # one that is damaged
                shutil.rmtree(entry)
                building.rename(entry)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _read(entry: Path) -> Memory | None:
    """Maps the arrays of an entry of the cache into memory; None if there is none, or it is damaged."""
    try:
        arrays = [np.asarray(np.load(entry / f"{name}.npy", mmap_mode="r")) for name in Memory._fields]
    except (OSError, ValueError, EOFError):
        return None
    memory = Memory(*arrays)
    whole = {len(array) for array in arrays} == {len(memory.size)} and len(memory.size) > 0
    return memory if whole and memory.lr.dtype == memory.hr.dtype == np.uint8 else None
