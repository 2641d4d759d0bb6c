"""tensorflow and tensorflow-datasets, imported without their log lines; and the data sets that TFDS has by name."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

from isr_jax.config import UserError
from isr_jax.pictures.pairs import InnerFile, PairFiles
from isr_jax.startup import silent_stderr

# The first import of tensorflow logs what nobody asked for, whatever its log level; set to 0, the level asks for it.
loud = os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0"
with contextlib.nullcontext() if loud else silent_stderr():
    import tensorflow as tf
    import tensorflow_datasets as tfds

__all__ = ["TfdsPictures", "tf", "tfds"]


class TfdsPictures:
    """The pictures of a TFDS data set of pairs, one after the other, as `PairFiles`; fetched if need be."""

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

    def __iter__(self) -> Iterator[PairFiles]:
        options: dict[str, Any] = {
            "split": "train",
            "shuffle_files": False,
            "read_config": tfds.ReadConfig(interleave_cycle_length=1),
            "decoders": {side: tfds.decode.SkipDecoding() for side in ("hr", "lr")},
        }
        pairs = self._builder.as_dataset(**options)
        for i, pair in enumerate(tfds.as_numpy(pairs)):
            files = {
                side: InnerFile(
                    name=f"picture {i}",
                    within=self._builder.info.full_name,
                    read_bytes=functools.partial(bytes, pair[side]),
                )
                for side in ("hr", "lr")
            }
            yield PairFiles(hr=files["hr"], lr=files["lr"])
