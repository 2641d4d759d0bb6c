"""Reading what ``torch.save`` wrote, without PyTorch and without running anything.

A checkpoint is a pickle, and a pickle is a program: the ordinary unpickler imports and calls whatever the file names.
The interpreter here knows only the instructions that build numbers, strings, tuples, lists, dicts and tensors. It
never imports and never calls what a file names; a file that asks for more is refused by the name of what it asked for.

Every size a file claims is checked against the bytes that are there, before anything is allocated. The zip format
(PyTorch 1.6 and later) has checksums, all of which are verified. The legacy format (up to 1.5) has none: a changed
bit in its numbers cannot be seen.
"""

import io
import math
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isr_jax.config import UserError

MAX_FILE_BYTES = 2**31
MAX_INSTRUCTIONS = 1_000_000
"""Of one pickle. A state dict takes about 30 for each tensor."""
MAX_DIMENSIONS = 8

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

# bfloat16 is read as its bits and widened when a tensor is built: NumPy has no such type.
_STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
_CALLABLES = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
)


class _Refused(Exception):
    """The file asks for something a table of weights does not need, or claims what its bytes do not hold."""


@dataclass(frozen=True)
class _Name:
    """A name the file asked for. It is never looked up."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """A flat run of numbers; several tensors may share one."""

    key: str
    dtype: str
    size: int


# None where the numbers are not read yet.
LoadStorage = Callable[[_Storage], np.ndarray | None]


def read_torch_file(path: str | Path) -> dict[Any, Any]:
    """Reads a file of ``torch.save``, in the zip or in the legacy format.

    Args:
      path: The file.
    Returns: The dictionary it holds. Tensors are read-only NumPy arrays (bfloat16 widened to float32, exactly).
    Raises:
      UserError: If the file is damaged, asks for anything but plain data and tensors, or does not hold a dictionary.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: larger than {MAX_FILE_BYTES >> 30} GiB, which no checkpoint of this network is")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_torch_file(data, str(path))


def parse_torch_file(data: bytes, name: str) -> dict[Any, Any]:
    """Does what `read_torch_file` does, on bytes; `name` is for the error messages."""
    try:
        value = _read_zip(data) if data[:4] == b"PK\x03\x04" else _read_legacy(data)
        if not isinstance(value, dict):
            raise _Refused(f"holds a {type(value).__name__}, not a dictionary of tensors")
    except _Refused as refusal:
        # The message may quote the file, whose strings may hold anything.
        message = "".join(c if c.isprintable() else "?" for c in str(refusal))
        raise UserError(f"{name}: {message}") from None
    return value


# --- the interpreter -------------------------------------------------------------------------------------------------


def _unpickle(stream: io.BytesIO, load_storage: LoadStorage | None) -> Any:
    """Runs one pickle from `stream` and leaves it behind the end of the pickle."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools' about the strings of a damaged file
            return _run(stream, load_storage)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise _Refused(f"damaged, or not a file of torch.save ({str(error)[:80] or type(error).__name__})") from None


def _run(stream: io.BytesIO, load_storage: LoadStorage | None) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    arg: Any
    for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
        if count >= MAX_INSTRUCTIONS:
            raise _Refused(f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return _pop(stack, marks)
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            case (
                "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT"
                | "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8"
                | "STRING" | "BINSTRING" | "SHORT_BINSTRING"
            ):  # fmt: skip
                stack.append(arg)
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(_pop_to_mark(stack, marks)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [_pop(stack, marks) for _ in range(int(opcode.name[-1]))]
                stack.append(tuple(reversed(items)))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(_pop_to_mark(stack, marks))
            case "APPEND":
                value = _pop(stack, marks)
                _top(stack, list).append(value)
            case "APPENDS":
                values = _pop_to_mark(stack, marks)
                _top(stack, list).extend(values)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = _pop_to_mark(stack, marks)
                stack.append({})
                _set_items(stack[-1], items)
            case "SETITEM":
                value, key = _pop(stack, marks), _pop(stack, marks)
                _set_items(_top(stack, dict), [key, value])
            case "SETITEMS":
                items = _pop_to_mark(stack, marks)
                _set_items(_top(stack, dict), items)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "GLOBAL":
                stack.append(_check_name(".".join(arg.split(" "))))
            case "STACK_GLOBAL":
                name, module = _pop(stack, marks), _pop(stack, marks)
                stack.append(_check_name(f"{module!s:.80}.{name!s:.80}"))
            case "BINPERSID":
                stack.append(_check_storage(_pop(stack, marks)))
            case "REDUCE" | "NEWOBJ":
                args, function = _pop(stack, marks), _pop(stack, marks)
                stack.append(_build(function, args, load_storage))
            case "BUILD":
                # PyTorch hangs version numbers on an OrderedDict as an attribute. The weights do not need them.
                _pop(stack, marks)
                _top(stack, OrderedDict)
            case other:
                raise _Refused(f"asks for {other}{f' {arg!s:.80}' if arg else ''}, which no table of weights needs")
    raise ValueError("the pickle does not end")


def _pop(stack: list[Any], marks: list[int]) -> Any:
    if marks and len(stack) <= marks[-1]:
        raise ValueError("the stack is empty")
    return stack.pop()


def _pop_to_mark(stack: list[Any], marks: list[int]) -> list[Any]:
    start = marks.pop()
    items = stack[start:]
    del stack[start:]
    return items


def _top(stack: list[Any], kind: type) -> Any:
    if not isinstance(stack[-1], kind):
        raise ValueError(f"expected a {kind.__name__}")
    return stack[-1]


def _set_items(target: dict[Any, Any], items: list[Any]) -> None:
    if len(items) % 2:
        raise ValueError("a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Other keys would be hashed, and a nested tuple can be made to take forever.
        if not isinstance(key, str | int):
            raise ValueError(f"a dictionary key of type {type(key).__name__}")
        target[key] = value


def _check_name(name: str) -> _Name:
    if name not in _CALLABLES and name not in _STORAGES:
        raise _Refused(f"asks for {name:.80}; only plain data and tensors are read. Save its state_dict alone")
    return _Name(name)


def _check_storage(persistent_id: Any) -> _Storage:
    if not isinstance(persistent_id, tuple) or not persistent_id or persistent_id[0] != "storage":
        what = persistent_id[0] if isinstance(persistent_id, tuple) and persistent_id else persistent_id
        raise _Refused(f"asks for a stored object of kind {str(what)[:80]}, not a tensor's storage")
    if len(persistent_id) == 6 and persistent_id[5] is not None:
        raise _Refused("holds a view of a storage, as PyTorch before 0.4 wrote; save it anew")
    kind, key, _, size = persistent_id[1:5]
    if not isinstance(kind, _Name) or kind.name not in _STORAGES or not isinstance(key, str) or not _is_size(size):
        raise ValueError("a storage that is described wrongly")
    return _Storage(key, _STORAGES[kind.name], size)


def _build(function: Any, args: Any, load_storage: LoadStorage | None) -> Any:
    name = function.name if isinstance(function, _Name) else type(function).__name__
    if name not in _CALLABLES or not isinstance(args, tuple):
        raise ValueError(f"a call of {name:.80}")
    if name == "collections.OrderedDict":
        if args:
            raise ValueError("an OrderedDict with arguments")
        return OrderedDict()
    if name == "torch._utils._rebuild_parameter":
        if not args or not isinstance(args[0], np.ndarray):
            raise ValueError("a parameter without a tensor")
        return args[0]
    storage, offset, size, stride = args[:4]
    if not isinstance(storage, _Storage) or load_storage is None:
        raise ValueError("a tensor without a storage")
    numbers = load_storage(storage)
    return np.empty(0) if numbers is None else _build_tensor(numbers, offset, size, stride)


def _build_tensor(flat: np.ndarray, offset: Any, size: Any, stride: Any) -> np.ndarray:
    """Returns the read-only view of `flat` that a tensor is, after checking that it stays inside."""
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride):
        raise ValueError("a tensor whose sizes and strides disagree")
    if len(size) > MAX_DIMENSIONS or not all(map(_is_size, (offset, *size, *stride))):
        raise ValueError("a tensor with impossible sizes")
    count = math.prod(size)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    # Repeated elements (stride 0) are no weights, and would let a small file claim a huge array.
    if count > flat.size or (count and last >= flat.size):
        raise ValueError(f"a tensor of shape {size} that its {flat.size} stored numbers cannot hold")
    if count == 0:
        return np.empty(size, flat.dtype)
    strides = tuple(s * flat.itemsize for s in stride)
    return np.lib.stride_tricks.as_strided(flat[offset:], size, strides, writeable=False)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_FILE_BYTES


def _numbers(storage: _Storage, data: memoryview) -> np.ndarray:
    if storage.dtype == "bfloat16":
        bits = np.frombuffer(data, "<u2").astype("<u4") << 16
        return bits.view("<f4")
    if storage.dtype == "?":
        return np.frombuffer(data, "u1") != 0
    return np.frombuffer(data, storage.dtype)


def _num_bytes(storage: _Storage) -> int:
    return storage.size * (2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize)


# --- the two file formats --------------------------------------------------------------------------------------------


def _read_zip(data: bytes) -> Any:
    members = _zip_members(data)
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _Refused("a zip archive, but not one of torch.save: it has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in members:
        raise _Refused("a TorchScript archive, which holds a program; save its state_dict instead")
    if bytes(members.get(f"{folder}byteorder", b"little")) != b"little":
        raise _Refused("written on a big-endian machine")
    storages: dict[str, tuple[_Storage, np.ndarray]] = {}

    def load_storage(storage: _Storage) -> np.ndarray:
        if storage.key not in storages:
            stored = members.get(f"{folder}data/{storage.key}")
            if stored is None or len(stored) != _num_bytes(storage):
                held = "nothing" if stored is None else f"{len(stored)} bytes"
                raise _Refused(f"storage {storage.key:.80} should have {_num_bytes(storage)} bytes and has {held}")
            storages[storage.key] = storage, _numbers(storage, stored)
        known, numbers = storages[storage.key]
        if known != storage:
            raise _Refused(f"storage {storage.key:.80} is described in two ways")
        return numbers

    return _unpickle(io.BytesIO(members[pickles[0]]), load_storage)


def _zip_members(data: bytes) -> dict[str, memoryview]:
    """Returns the members of an uncompressed zip archive, every checksum and header verified."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            end_of_members = archive.start_dir
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, OSError, EOFError, IndexError,
            struct.error):  # fmt: skip
        raise _Refused("damaged or cut short: its zip directory cannot be read; fetch the file again") from None
    # Who wrote a member, and with what attributes: one writer writes one answer.
    if len({(e.create_system, e.create_version, e.volume, e.internal_attr, e.external_attr) for e in entries}) > 1:
        raise _Refused("damaged: its zip directory contradicts itself; fetch the file again")
    members: dict[str, memoryview] = {}
    position = 0
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise _Refused(f"its member {entry.filename:.80} is compressed, which torch.save never does")
        start, end, after = _member_bounds(data, entry, position)
        member = memoryview(data)[start:end]
        if len(member) != entry.file_size or zlib.crc32(member) != entry.CRC:
            raise _Refused(f"damaged: the checksum of {entry.filename:.80} is wrong; fetch the file again")
        if entry.filename in members:
            raise _Refused(f"has two members called {entry.filename:.80}")
        members[entry.filename] = member
        position = after
    if position != end_of_members:
        raise _Refused("damaged: its zip directory does not follow its members")
    return members


def _member_bounds(data: bytes, entry: zipfile.ZipInfo, position: int) -> tuple[int, int, int]:
    """Returns where a member's bytes start and end, and where the next member starts.

    The header before the member must repeat what the directory says, and members must follow each other without gaps,
    so that damage to the structure is found like damage to the numbers.
    """
    damaged = _Refused(f"damaged: the header of {entry.filename:.80} is wrong; fetch the file again")
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
    if _unpickle(stream, None) != _LEGACY_MAGIC or _unpickle(stream, None) != _LEGACY_PROTOCOL:
        raise _Refused("a pickle, but not one of torch.save")
    system = _unpickle(stream, None)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _Refused("damaged, or written on a big-endian machine")

    # The numbers stand behind the pickle that describes them: read it once to learn the storages, find them, and then
    # once more to build the tensors.
    described: dict[str, _Storage] = {}
    start = stream.tell()

    def note(storage: _Storage) -> None:
        if described.setdefault(storage.key, storage) != storage:
            raise _Refused(f"storage {storage.key:.80} is described in two ways")

    _unpickle(stream, note)
    keys = _unpickle(stream, None)
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or sorted(keys) != sorted(described):
        raise _Refused("damaged: its list of storages is not what its tensors use")
    storages: dict[str, np.ndarray] = {}
    position = stream.tell()
    for key in keys:
        storage = described[key]
        end = position + 8 + _num_bytes(storage)
        if end > len(data):
            raise _Refused("cut short; fetch the file again")
        if struct.unpack_from("<q", data, position) != (storage.size,):
            raise _Refused(f"damaged: storage {key:.80} has another size than its tensors say")
        storages[key] = _numbers(storage, memoryview(data)[position + 8 : end])
        position = end
    if position != len(data):
        raise _Refused(f"damaged: {len(data) - position} bytes follow the last storage")
    stream.seek(start)
    return _unpickle(stream, lambda storage: storages[storage.key])
