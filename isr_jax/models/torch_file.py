"""Reading what ``torch.save`` wrote, without PyTorch and without running anything.

A checkpoint is a pickle, and a pickle is a program: the ordinary unpickler imports and calls whatever the file names.
The interpreter of `torch_pickle` knows only the instructions that build plain data and tensors; a file that asks for
more is refused by the name of what it asked for.

Every size a file claims is checked against the bytes that are there, before anything is allocated. The zip format
(PyTorch 1.6 and later) has checksums, all of which are verified. The legacy format (up to 1.5) has none: a changed
bit in its numbers cannot be seen.
"""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from isr_jax.config import UserError
from isr_jax.files import printable
from isr_jax.models.torch_pickle import MAX_FILE_BYTES, Refused, Storage, num_bytes, numbers_of, unpickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


def read_torch_file(path: str | Path) -> dict[Any, Any]:
    """Reads a file of ``torch.save``, in the zip or in the legacy format.

    Args:
      path: The file.
    Returns: The dictionary it holds. Tensors are read-only NumPy arrays (bfloat16 widened to float32, exactly).
    Raises:
      UserError: If the file is damaged, asks for anything but plain data and tensors, or does not hold a dictionary.
    """
    return parse_torch_file(read_bytes(Path(path)), str(path))


def read_bytes(path: Path) -> bytes:
    """Reads a file of weights whole.

    Raises:
      UserError: If it cannot be read, or is larger than any checkpoint of this network.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: larger than {MAX_FILE_BYTES >> 30} GiB, which no checkpoint of this network is")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def parse_torch_file(data: bytes, name: str) -> dict[Any, Any]:
    """Does what `read_torch_file` does, on bytes; `name` is for the error messages."""
    try:
        value = _read_zip(data) if data[:4] == b"PK\x03\x04" else _read_legacy(data)
        if not isinstance(value, dict):
            raise Refused(f"holds a {type(value).__name__}, not a dictionary of tensors")
    except Refused as refusal:
        # The message may quote the file, whose strings may hold anything.
        raise UserError(f"{name}: {printable(str(refusal))}") from None
    return value


def _read_zip(data: bytes) -> Any:
    members = _zip_members(data)
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Refused("a zip archive, but not one of torch.save: it has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members:
        raise Refused("a TorchScript archive, which holds a program; save its state_dict instead")
    if bytes(members.get(f"{folder}byteorder", b"little")) != b"little":
        raise Refused("written on a big-endian machine")
    storages: dict[str, tuple[Storage, np.ndarray]] = {}

    def load_storage(storage: Storage) -> np.ndarray:
        if storage.key not in storages:
            stored = members.get(f"{folder}data/{storage.key}")
            if stored is None or len(stored) != num_bytes(storage):
                held = "nothing" if stored is None else f"{len(stored)} bytes"
                raise Refused(f"storage {storage.key:.80} should have {num_bytes(storage)} bytes and has {held}")
            storages[storage.key] = storage, numbers_of(storage, stored)
        known, numbers = storages[storage.key]
        if known != storage:
            raise Refused(f"storage {storage.key:.80} is described in two ways")
        return numbers

    return unpickle(io.BytesIO(members[pickles[0]]), load_storage)


def _zip_members(data: bytes) -> dict[str, memoryview]:
    """Returns the members of an uncompressed zip archive, every checksum and header verified."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            end_of_members = archive.start_dir
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, OSError, EOFError, IndexError,
            struct.error):  # fmt: skip
        raise Refused("damaged or cut short: its zip directory cannot be read; fetch the file again") from None
    # Who wrote a member, and with what attributes: one writer writes one answer.
    if len({(e.create_system, e.create_version, e.volume, e.internal_attr, e.external_attr) for e in entries}) > 1:
        raise Refused("damaged: its zip directory contradicts itself; fetch the file again")
    members: dict[str, memoryview] = {}
    position = 0
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise Refused(f"its member {entry.filename:.80} is compressed, which torch.save never does")
        start, end, after = _member_bounds(data, entry, position)
        member = memoryview(data)[start:end]
        if len(member) != entry.file_size or zlib.crc32(member) != entry.CRC:
            raise Refused(f"damaged: the checksum of {entry.filename:.80} is wrong; fetch the file again")
        if entry.filename in members:
            raise Refused(f"has two members called {entry.filename:.80}")
        members[entry.filename] = member
        position = after
    if position != end_of_members:
        raise Refused("damaged: its zip directory does not follow its members")
    return members


def _member_bounds(data: bytes, entry: zipfile.ZipInfo, position: int) -> tuple[int, int, int]:
    """Returns where a member's bytes start and end, and where the next member starts.

    The header before the member must repeat what the directory says, and members must follow each other without gaps,
    so that damage to the structure is found like damage to the numbers.
    """
    damaged = Refused(f"damaged: the header of {entry.filename:.80} is wrong; fetch the file again")
    if entry.header_offset != position or position + 30 > len(data):
        raise damaged
    header = struct.unpack_from("<4s5H3I2H", data, position)
    signature, version, flags, method, time, date, crc, stored_size, size, name_size, extra_size = header
    start = position + 30 + name_size + extra_size
    end = start + entry.file_size
    name = data[position + 30 : position + 30 + name_size]
    extra = data[position + 30 + name_size : start]
    year, month, day, hour, minute, second = entry.date_time
    stamp = (hour << 11 | minute << 5 | second >> 1, (year - 1980) << 9 | month << 5 | day)
    encoding = "utf-8" if flags & 0x800 else "cp437"
    has_descriptor = bool(flags & 8)
    sizes = (crc, stored_size, size)
    expected = (entry.CRC, entry.file_size, entry.file_size)
    if (
        signature != b"PK\x03\x04"
        or (flags, method, version) != (entry.flag_bits, entry.compress_type, entry.extract_version)
        or (time, date) != stamp
        or name != entry.orig_filename.encode(encoding, "replace")
        or (sizes != expected and not (has_descriptor and sizes == (0, 0, 0)))
        # PyTorch aligns each member by a field of Z's.
        or (extra[:2] == b"FB" and extra[2:] != struct.pack("<H", len(extra) - 4) + b"Z" * (len(extra) - 4))
    ):
        raise damaged
    if not has_descriptor:
        return start, end, end
    if data[end : end + 16] != struct.pack("<4s3I", b"PK\x07\x08", *expected):
        raise damaged
    return start, end, end + 16


def _read_legacy(data: bytes) -> Any:
    """Reads three pickles of header, the pickle of the value, the list of storages, and then their numbers."""
    stream = io.BytesIO(data)
    if unpickle(stream, None) != _LEGACY_MAGIC or unpickle(stream, None) != _LEGACY_PROTOCOL:
        raise Refused("a pickle, but not one of torch.save")
    system = unpickle(stream, None)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refused("damaged, or written on a big-endian machine")

    # The numbers stand behind the pickle that describes them: read it once to learn the storages, find them, and then
    # once more to build the tensors.
    described: dict[str, Storage] = {}
    start = stream.tell()

    def note(storage: Storage) -> None:
        if described.setdefault(storage.key, storage) != storage:
            raise Refused(f"storage {storage.key:.80} is described in two ways")

    unpickle(stream, note)
    keys = unpickle(stream, None)
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or sorted(keys) != sorted(described):
        raise Refused("damaged: its list of storages is not what its tensors use")
    storages: dict[str, np.ndarray] = {}
    position = stream.tell()
    for key in keys:
        storage = described[key]
        end = position + 8 + num_bytes(storage)
        if end > len(data):
            raise Refused("cut short; fetch the file again")
        if struct.unpack_from("<q", data, position) != (storage.size,):
            raise Refused(f"damaged: storage {key:.80} has another size than its tensors say")
        storages[key] = numbers_of(storage, memoryview(data)[position + 8 : end])
        position = end
    if position != len(data):
        raise Refused(f"damaged: {len(data) - position} bytes follow the last storage")
    stream.seek(start)
    return unpickle(stream, lambda storage: storages[storage.key])
