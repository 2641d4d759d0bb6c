"""Training pictures from a class of one's own, named in data.train as "my_package.pictures:Pictures".

The class is called without arguments and makes a sequence of HR pictures, like those of data loaders elsewhere: `len`
and `pictures[i]` -> uint8 (H, W, C), C = 1 or 3, the same picture for the same i every time and in any thread. LR is
made by the bit-exact imresize, or in the step (data.degradation). What `content`, a text, says where there is one
stands for all the pictures: it changes when they do. Without it every picture is made once more at each start, for a
digest.
"""

import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from isr_jax.config import UserError
from isr_jax.config.names import locate, running
from isr_jax.pictures.pairs import Pair, as_channels, match_pair


class OwnPictures:
    """The pairs of a sequence of pictures."""

    def __init__(self, name: str):
        """Makes the sequence.

        Args:
          name: "module:Class", or another callable that makes one.
        Raises:
          ConfigError: If it cannot be imported.
          UserError: If it is no sequence, or is empty.
        """
        make = locate(name, "data.train")
        with running(name, "data.train"):
            self.name, self.pictures = name, make()
        if not hasattr(self.pictures, "__len__") or not hasattr(self.pictures, "__getitem__"):
            raise UserError(f"data.train, {name}: pictures of one's own are a sequence, with __len__ and __getitem__")
        if not len(self):
            raise UserError(f"data.train, {name} has no pictures")

    def __len__(self) -> int:
        with running(self.name, "data.train"):
            return len(self.pictures)

    def __iter__(self) -> Iterator["OwnPicture"]:
        return (OwnPicture(self, index) for index in range(len(self)))

    def read(self, index: int) -> UInt8[np.ndarray, "height width channels"]:
        """Returns a picture.

        Raises:
          UserError: If it is none.
        """
        with running(self.name, "data.train"):
            pixels: Any = np.asarray(self.pictures[index])
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
            raise UserError(
                f"data.train, {self.name}: picture {index} is {pixels.dtype} {pixels.shape}; make it uint8 (H, W, 1) or"
                " (H, W, 3)"
            )
        return pixels

    @functools.cached_property
    def content(self) -> str:
        """A digest of the pictures."""
        if isinstance(said := getattr(self.pictures, "content", None), str):
            return hashlib.sha256(f"{self.name}|{len(self)}|{said}".encode()).hexdigest()
        digest = hashlib.sha256()
        for index in range(len(self)):
            pixels = self.read(index)
            digest.update(f"{pixels.shape} ".encode() + pixels.tobytes())
        return digest.hexdigest()


class OwnPicture:
    """One of them, with what `PairFiles` has."""

    lr = None

    def __init__(self, pictures: OwnPictures, index: int):
        self._pictures, self._index = pictures, index

    def lr_size(self, scale: int, *, least: int) -> tuple[int, int] | None:
        """Returns the height and width of LR; None where `read` would raise."""
        height, width = (side // scale for side in self._pictures.read(self._index).shape[:2])
        return (height, width) if min(height, width) * scale >= max(least, scale) else None

    def read(self, scale: int, *, channels: int | None = None, least: int = 1, convert: bool = False) -> Pair:
        """Makes the pair; the arguments are those of `PairFiles.read`.

        Raises:
          UserError: If the picture cannot be used.
        """
        del convert  # it has 8 bits
        pixels, name = self._pictures.read(self._index), f"{self._pictures.name}, picture {self._index}"
        pixels = pixels if channels is None else as_channels(pixels, channels)
        hr, lr = match_pair(pixels, None, scale, least=least, names=(name, ""))
        return Pair(name=str(self._index), hr=hr, lr=lr)
