"""The .safetensors format: the length of a header, the header as JSON, and the numbers of all tensors in a row.

It is read and written here, without the package of that name: training on a bare machine needs it, and the package
writes the metadata in another order at every call, so that one model would not be one file.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"} | {
    f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items() if name != "BF16"}


def encode_tensors(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Returns the content of a file: the same bytes for the same tensors and the same order of the metadata.

    Args:
      tensors: By name, of floating point (64, 32, 16 bits), whole numbers or bool.
      metadata: What is said beside them.
    """
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))  # numbers lie on their own size
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    parts, end = [], 0
    for name in ordered:
        array = tensors[name]
        parts.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
        begin, end = end, end + len(parts[-1])
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def decode_tensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors of a file by their names, bfloat16 as float32 (which is exact), and its metadata.

    Raises:
      ValueError: If it is damaged, or holds a type of number that is not known here.
    """
    length = int.from_bytes(data[:8], "little")
    header = _parse_header(data[8 : 8 + length], length)
    metadata, numbers = header.pop("__metadata__", {}), data[8 + length :]
    tensors, end = {}, 0
    try:
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            (begin, until), shape, kind = entry["data_offsets"], entry["shape"], _TYPES.get(entry["dtype"])
            if kind is None:
                raise ValueError(f"{name} is of type {entry['dtype']}, which is not read here")
            if not all(type(n) is int and n >= 0 for n in (begin, until, *shape)):
                raise ValueError(f"{name} has no sizes and places")
            if begin != end or until - begin != math.prod(shape) * np.dtype(kind).itemsize:
                raise ValueError(f"{name} does not lie where its sizes say")
            if until > len(numbers):
                raise ValueError("it is not as long as its header says")
            array = np.frombuffer(numbers[begin:until], kind)
            if entry["dtype"] == "BF16":
                array = (array.astype("<u4") << 16).view("<f4")
            tensors[name], end = array.reshape(shape), until
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"its header cannot be understood: {error!r}") from None
    if end != len(numbers):
        raise ValueError("it is not as long as its header says")
    return tensors, metadata


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Returns the metadata of a file; the numbers are not read.

    Raises:
      ValueError: If it is damaged, or another kind of file.
      OSError: If it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise ValueError("its header is not whole")
        return _parse_header(file.read(length), length).get("__metadata__", {})


def _parse_header(text: bytes, length: int) -> dict[str, Any]:
    if not text.startswith(b"{") or len(text) != length:
        raise ValueError("its header is not whole")
    try:
        header = json.loads(text)
    except RecursionError:
        raise ValueError("its header cannot be understood") from None
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not texts")
    return header
