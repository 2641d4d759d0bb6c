"""Files of which something is damaged, though not the pixels."""

import io
import re
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

_END_OF_JPEG = b"\xff\xd9"
_LEAST_BYTES = {b"iCCP": 11, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"cICP": 4, b"eXIf": 4, b"tRNS": 1}
_FILLS = [bytes([lead + 11, 0x55, 0x2C, 0x93]) * 1024 for lead in range(0, 256, 32)]  # no code of all starts alike


def with_jpeg_end(data: bytes) -> bytes | None:
    """Returns a JPEG file with the end marker that it lacks, None if it lacks more than that.

    A decoder makes up what is missing, and does not say so. But where nothing is missing, whatever stands before the
    end marker leaves the pixels as they are.
    """
    body = data.rstrip(b"\xff")
    if not _has_all_scans(body):
        return None
    first = None
    for fill in _FILLS:
        try:
            with Image.open(io.BytesIO(body + fill + _END_OF_JPEG), formats=["JPEG"]) as image:
                pixels = np.asarray(image)
        except (OSError, SyntaxError):
            return None
        if first is not None and not np.array_equal(first, pixels):
            return None
        first = pixels
    return body + _END_OF_JPEG


def _has_all_scans(data: bytes) -> bool:
    """Tells whether every coefficient of a JPEG has a scan that brings its last bit. Reference: ITU-T T.81, B.2."""
    at, components = 2, 0
    while data[at : at + 1] == b"\xff" and data[at + 1] != 0xDA:
        if data[at + 1] in (0xC0, 0xC1, 0xC2):
            components = data[at + 9]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    finished = set()
    for scan in re.finditer(rb"\xff\xda..([\1-\4])", data[at:], re.DOTALL):
        header = data[at + scan.end() : at + scan.end() + 2 * scan[1][0] + 3]
        if len(header) == 2 * scan[1][0] + 3 and header[-1] & 15 == 0:
            places = range(header[-3], header[-2] + 1)
            finished |= {(name, place) for name in header[:-3:2] for place in places}
    return 0 < 64 * components == len(finished)


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
