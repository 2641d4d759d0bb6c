"""Our reader and writer of .safetensors beside the package of that name."""

import json
import random
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from isr_jax.models.model_file import SHIPPED
from isr_jax.models.tensor_file import decode_tensors, encode_tensors, read_metadata

TENSORS = {
    "b.kernel": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
    "a": np.float64(0.1) * np.ones(2),
    "half": np.ones(3, np.float16),
    "scalar": np.array(7, np.float32),
    "none": np.zeros((0, 3), np.float32),
    "whole": np.array([-1, 2]),
    "byte": np.array([1, 2, 3], np.uint8),
    "é": np.array([True, False]),
}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape), name
        assert a[name].tobytes() == b[name].tobytes()


@pytest.mark.parametrize("metadata", [{}, {"format": "é"}])
def test_the_bytes_are_those_of_the_package(metadata):
    floats = {name: array for name, array in TENSORS.items() if array.dtype.kind == "f" and array.size}
    assert encode_tensors(floats, metadata) == safetensors.numpy.save(floats, metadata or None)


def test_each_reads_what_the_other_writes(tmp_path):
    metadata = {name: f"{name} é" for name in "zyxw"}
    (tmp_path / "ours").write_bytes(encode_tensors(TENSORS, metadata))
    assert_same(safetensors.numpy.load_file(tmp_path / "ours"), TENSORS)
    with safetensors.safe_open(tmp_path / "ours", framework="numpy") as file:
        assert file.metadata() == metadata
    theirs = safetensors.numpy.save(TENSORS, metadata)
    (tmp_path / "theirs").write_bytes(theirs)
    tensors, said = decode_tensors(theirs)
    assert_same(tensors, TENSORS)
    assert said == metadata == read_metadata(tmp_path / "theirs")


def test_the_shipped_models_are_read_alike():
    for path in SHIPPED.glob("*.safetensors"):
        assert_same(decode_tensors(path.read_bytes())[0], safetensors.numpy.load_file(path))


def test_the_same_model_is_the_same_bytes_in_every_process():
    code = (
        "import numpy as np, sys\n"
        "from isr_jax.models.tensor_file import encode_tensors\n"
        "sys.stdout.buffer.write(encode_tensors({'a': np.ones(3)}, {name: name for name in 'zyxwvu'}))"
    )
    first, second = (subprocess.run([sys.executable, "-c", code], capture_output=True).stdout for _ in range(2))
    assert first == second != b""


def test_bfloat16_is_widened_exactly():
    numbers = np.array([1.5, -3e38, 1e-40], ml_dtypes.bfloat16)
    data = encode_tensors({"a": numbers.view(np.uint16)}, {}).replace(b'"U16"', b'"BF16"').replace(b"} ", b"}")
    tensors, _ = decode_tensors(data)
    np.testing.assert_array_equal(tensors["a"], numbers.astype(np.float32))


def file_of(header, numbers=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not whole"),
        (b"\x10\0\0\0\0\0\0\0{}", "not whole"),
        (file_of(b"[" * 100_000), "not whole"),
        (file_of(b'{"a":' * 100_000), "cannot be understood"),
        (file_of({"a": ENTRY}, bytes(7)), "as long"),
        (file_of({"a": ENTRY}, bytes(9)), "as long"),
        (file_of({"a": ENTRY, "b": ENTRY}, bytes(8)), "does not lie"),
        (file_of({"a": ENTRY | {"shape": [3]}}, bytes(8)), "does not lie"),
        (file_of({"a": ENTRY | {"data_offsets": [-8, 0]}}, bytes(8)), "no sizes"),
        (file_of({"a": ENTRY | {"shape": [-2], "data_offsets": [0, -8]}}), "no sizes"),
        (file_of({"a": ENTRY | {"shape": [0, 2**70], "data_offsets": [0, 0]}}), "."),
        (file_of({"a": ENTRY | {"shape": 2}}, bytes(8)), "cannot be understood"),
        (file_of({"a": ENTRY | {"dtype": "F8_E4M3"}}, bytes(8)), "F8_E4M3, which is not read"),
        (file_of({"a": 3}), "cannot be understood"),
        (file_of({"a": {}}), "cannot be understood"),
        (file_of({"__metadata__": {"a": 3}}), "not texts"),
        (file_of({"__metadata__": []}), "not texts"),
    ],
)
def test_damage_is_a_value_error(data, said):
    with pytest.raises(ValueError, match=said):
        decode_tensors(data)


def test_what_the_package_refuses_is_refused():
    data = encode_tensors(TENSORS, {"format": "x"})
    header, choose = int.from_bytes(data[:8], "little"), random.Random(0)
    for _ in range(500):
        damaged = bytearray(data)
        damaged[choose.randrange(8 + header)] ^= choose.randrange(1, 256)
        try:
            ours = decode_tensors(bytes(damaged))[0]
        except ValueError:
            continue
        assert_same(ours, safetensors.numpy.load(bytes(damaged)))
