"""An interpreter of the few pickle instructions that tables of weights need; it imports and calls nothing.

It knows the instructions that build numbers, strings, tuples, lists, dicts and tensors. A pickle that asks for more is
refused by the name of what it asked for.
"""

import io
import math
import pickletools
import struct
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_FILE_BYTES = 2**31
MAX_INSTRUCTIONS = 1_000_000
"""Of one pickle. A state dict takes about 30 for each tensor."""
MAX_DIMENSIONS = 8

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


class Refused(Exception):
    """The file asks for something a table of weights does not need, or claims what its bytes do not hold."""


@dataclass(frozen=True)
class _Name:
    """A name the file asked for. It is never looked up."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A flat run of numbers; several tensors may share one."""

    key: str
    dtype: str
    size: int


# None where the numbers are not read yet.
LoadStorage = Callable[[Storage], np.ndarray | None]


def unpickle(stream: io.BytesIO, load_storage: LoadStorage | None) -> Any:
    """Runs one pickle from `stream` and leaves it behind the end of the pickle."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools' about the strings of a damaged file
            return _run(stream, load_storage)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise Refused(f"damaged, or not a file of torch.save ({str(error)[:80] or type(error).__name__})") from None


def _run(stream: io.BytesIO, load_storage: LoadStorage | None) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    arg: Any
    for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
        if count >= MAX_INSTRUCTIONS:
            raise Refused(f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions")
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
                raise Refused(f"asks for {other}{f' {arg!s:.80}' if arg else ''}, which no table of weights needs")
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
        raise Refused(f"asks for {name:.80}; only plain data and tensors are read. Save its state_dict alone")
    return _Name(name)


def _check_storage(persistent_id: Any) -> Storage:
    if not isinstance(persistent_id, tuple) or not persistent_id or persistent_id[0] != "storage":
        what = persistent_id[0] if isinstance(persistent_id, tuple) and persistent_id else persistent_id
        raise Refused(f"asks for a stored object of kind {str(what)[:80]}, not a tensor's storage")
    if len(persistent_id) == 6 and persistent_id[5] is not None:
        raise Refused("holds a view of a storage, as PyTorch before 0.4 wrote; save it anew")
    kind, key, _, size = persistent_id[1:5]
    if not isinstance(kind, _Name) or kind.name not in _STORAGES or not isinstance(key, str) or not _is_size(size):
        raise ValueError("a storage that is described wrongly")
    return Storage(key, _STORAGES[kind.name], size)


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
    if not isinstance(storage, Storage) or load_storage is None:
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


def numbers_of(storage: Storage, data: memoryview) -> np.ndarray:
    """Returns the bytes of a storage as its numbers; bfloat16 widened to float32."""
    if storage.dtype == "bfloat16":
        bits = np.frombuffer(data, "<u2").astype("<u4") << 16
        return bits.view("<f4")
    if storage.dtype == "?":
        return np.frombuffer(data, "u1") != 0
    return np.frombuffer(data, storage.dtype)


def num_bytes(storage: Storage) -> int:
    """Returns how many bytes the file has to hold for a storage."""
    return storage.size * (2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize)
