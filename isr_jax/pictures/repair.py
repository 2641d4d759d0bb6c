"""Files of which something is damaged, though not the pixels."""

import io
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

_END_OF_JPEG = b"\xff\xd9"
_LEAST_BYTES = {b"iCCP": 11, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"cICP": 4, b"eXIf": 4, b"tRNS": 1}
_FILLS = (b"", b"\x55\xaa" * 4096, b"\x2c\x93\xe1" * 4096)


def with_jpeg_end(data: bytes) -> bytes | None:
    """Returns a JPEG file with the end marker that it lacks, None if it lacks more than that.

    A decoder makes up what is missing, and does not say so. But where nothing is missing, whatever stands before the
    end marker leaves the pixels as they are.
    """
    body = data.rstrip(b"\xff")
    if body.endswith(b"\xd9") and data.endswith(_END_OF_JPEG):
        return None
    pictures = []
    for fill in _FILLS:
        try:
            with Image.open(io.BytesIO(body + fill + _END_OF_JPEG), formats=["JPEG"]) as image:
                pictures.append(np.asarray(image))
        except (OSError, SyntaxError):
            return None
        if not np.array_equal(pictures[0], pictures[-1]):
            return None
    return body + _END_OF_JPEG


def without_damaged_chunks(data: bytes) -> tuple[bytes, list[str]]:
    """Returns a PNG file without the damaged chunks among those that it can do without, and their names.

    Damaged are those with a wrong checksum, and those that are shorter than any of their kind.
    """
    kept, names = [data[:8]], []
    for kind, content, whole, sound in _chunks(data):
        if kind[:1].islower() and (not sound or len(content) < _LEAST_BYTES.get(kind, 0)):
            names.append(kind.decode("ascii", "replace"))
        else:
            kept.append(whole)
    return b"".join(kept), names


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Yields the kind, the content and the whole of each chunk, and whether its checksum is right."""
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, content = data[at + 4 : at + 8], data[at + 8 : end - 4]
        sound = end <= len(data) and zlib.crc32(kind + content) == int.from_bytes(data[end - 4 : end], "big")
        yield kind, content, data[at:end], sound
        at = end
