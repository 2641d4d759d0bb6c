"""Writes files as ``torch.save`` does, instruction by instruction, so that the tests need no PyTorch."""

import io
import struct
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np

STORAGES = {"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "i4": "Int", "u1": "Byte", "b1": "Bool"}


class Raw:
    """Instructions to put into a pickle as they are."""

    def __init__(self, code: bytes):
        self.code = code


def call(name: str, *arguments: str) -> Raw:
    """Returns what makes an ordinary unpickler call `name`, as in "posix.system"."""
    module, _, function = name.rpartition(".")
    strings = b"".join(b"X" + struct.pack("<I", len(a)) + a.encode() for a in arguments)
    return Raw(f"c{module}\n{function}\n".encode() + b"(" + strings + b"tR")


class Pickle:
    """The pickle of a value; collects the storages of its tensors."""

    def __init__(self, value: Any, legacy: bool = False):
        self.legacy = legacy
        self.storages: dict[str, np.ndarray] = {}
        self.keys: dict[int, str] = {}
        self.code = b"\x80\x02" + self.encode(value) + b"."

    def encode(self, value: Any) -> bytes:
        match value:
            case Raw():
                return value.code
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int() if -(2**31) <= value < 2**31:
                return b"J" + struct.pack("<i", value)
            case int():
                return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
            case tuple():
                return b"(" + b"".join(map(self.encode, value)) + b"t"
            case list():
                return b"](" + b"".join(map(self.encode, value)) + b"e"
            case dict():
                start = b"ccollections\nOrderedDict\n)R" if isinstance(value, OrderedDict) else b"}"
                return start + b"(" + b"".join(self.encode(k) + self.encode(v) for k, v in value.items()) + b"u"
            case np.ndarray():
                return self.tensor(value)
        raise TypeError(type(value))

    def tensor(self, array: np.ndarray, **changes: Any) -> bytes:
        """Arrays that are one object share one storage, as PyTorch's modules do."""
        key = self.keys.setdefault(id(array), str(len(self.keys)))
        self.storages[key] = array
        kind = Raw(f"ctorch\n{STORAGES[array.dtype.str[1:]]}Storage\n".encode())
        storage = ("storage", kind, key, "cpu", array.size) + ((None,) if self.legacy else ())
        strides = tuple(s // array.itemsize for s in np.empty(array.shape, array.dtype).strides)
        arguments = (Raw(self.encode(storage) + b"Q"), 0, array.shape, strides, False, OrderedDict())
        return b"ctorch._utils\n_rebuild_tensor_v2\n" + self.encode(arguments) + b"R"


def zip_file(pickle: Pickle, name: str = "model") -> bytes:
    """Returns the zip format of PyTorch 1.6 and later: aligned members, descriptors, padding of Z's."""
    stream = io.BytesIO()
    members = {"data.pkl": pickle.code, "byteorder": b"little"}
    members |= {f"data/{key}": array.tobytes() for key, array in pickle.storages.items()}
    members |= {"version": b"3\n"}
    with zipfile.ZipFile(stream, "w") as archive:
        for member, data in members.items():
            entry = zipfile.ZipInfo(f"{name}/{member}")
            entry.extra = b"FB\x08\x00ZZZZZZZZ"
            archive.writestr(entry, data)
    return stream.getvalue()


def legacy_file(pickle: Pickle) -> bytes:
    """Returns the format of PyTorch 1.5 and earlier."""
    header = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [Pickle(v).code for v in (0x1950A86A20F9469CFC6C, 1001, header)] + [pickle.code]
    parts.append(Pickle(list(pickle.storages)).code)
    parts += [struct.pack("<q", array.size) + array.tobytes() for array in pickle.storages.values()]
    return b"".join(parts)


def torch_bytes(value: Any, *, legacy: bool = False) -> bytes:
    """Returns the file that ``torch.save`` makes of nested dicts, lists, numbers, strings and arrays."""
    pickle = Pickle(value, legacy)
    return legacy_file(pickle) if legacy else zip_file(pickle)
