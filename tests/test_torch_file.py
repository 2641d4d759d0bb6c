import io
import pickle
import random
import time
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from isr_jax.config import UserError
from isr_jax.models import torch_file
from isr_jax.models.torch_file import parse_torch_file, read_torch_file
from tests.torch_writer import Pickle, Raw, call, legacy_file, torch_bytes, zip_file

rng = np.random.default_rng(0)
FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def small_checkpoint() -> dict:
    state = OrderedDict(weight=rng.normal(size=(4, 3, 2, 2)).astype("f4"), bias=np.arange(4, dtype="f4"))
    state["again"] = state["weight"]
    return {"state_dict": state, "epoch": 7, "rates": [1e-4, 5e-5], "betas": (0.9, 0.999), "name": "tiny", "none": None}


def parse_pickle(code: bytes, legacy: bool) -> object:
    """Reads a file whose main pickle is `code`."""
    main = Pickle({})
    main.code = code
    return parse_torch_file(legacy_file(main) if legacy else zip_file(main), "file.pth")


@FORMATS
def test_reads_what_was_written(legacy, tmp_path):
    written = small_checkpoint()
    path = tmp_path / "tiny.pth"
    path.write_bytes(torch_bytes(written, legacy=legacy))
    read = read_torch_file(path)
    assert list(read) == list(written)
    assert isinstance(read["state_dict"], OrderedDict)
    assert {k: v for k, v in read.items() if k != "state_dict"} == {
        k: v for k, v in written.items() if k != "state_dict"
    }
    for key, array in written["state_dict"].items():
        assert read["state_dict"][key].dtype == array.dtype
        np.testing.assert_array_equal(read["state_dict"][key], array)
    assert not read["state_dict"]["weight"].flags.writeable


@FORMATS
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "u1", "b1"])
def test_reads_every_type(legacy, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    read = parse_torch_file(torch_bytes({"x": array, "s": np.array(array[0, 0])}, legacy=legacy), "x")
    assert read["x"].dtype == array.dtype
    np.testing.assert_array_equal(read["x"], array)
    assert read["s"].shape == ()


def test_widens_bfloat16():
    exact = np.array([1.0, -2.5, 3.0e38, 2.0**-130], "f4")
    bits = (exact.view("u4") >> 16).astype("u2")
    main = Pickle({"x": exact})
    main.code = main.code.replace(b"FloatStorage", b"BFloat16Storage")
    main.storages["0"] = bits
    read = parse_torch_file(zip_file(main), "x")["x"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, (bits.astype("u4") << 16).view("f4"))


def test_reads_a_transposed_tensor_and_a_slice():
    array = np.arange(12, dtype="f4").reshape(3, 4)
    main = Pickle({})
    for (offset, size, stride), expected in {
        (0, (4, 3), (1, 4)): array.T,
        (5, (2, 3), (4, 1)): array[1:, 1:],
        (11, (), ()): array[2, 3],
        (0, (0, 5), (5, 1)): np.empty((0, 5)),
    }.items():
        storage = ("storage", Raw(b"ctorch\nFloatStorage\n"), "0", "cpu", 12)
        rebuilt = main.encode((Raw(main.encode(storage) + b"Q"), offset, size, stride, False, OrderedDict()))
        main.code = b"}" + main.encode("x") + b"ctorch._utils\n_rebuild_tensor_v2\n" + rebuilt + b"Rs."
        main.storages = {"0": array}
        np.testing.assert_array_equal(parse_torch_file(zip_file(main), "x")["x"], expected)


@pytest.mark.parametrize(
    ("offset", "size", "stride", "count"),
    [
        (0, (13,), (1,), 12),  # longer than the storage
        (10, (3,), (1,), 12),  # behind its end
        (-1, (3,), (1,), 12),
        (0, (3,), (-1,), 12),
        (0, (2, 2), (1,), 12),
        (0, (2**40,), (0,), 12),  # a small file that claims a huge array
        (0, (10**6,), (0,), 12),
        (0, (1,) * 40, (1,) * 40, 12),
        (0, (12,), (1,), 10**9),  # the storage has fewer numbers
        (0, (True,), (1,), 12),
    ],
)
@FORMATS
def test_refuses_impossible_tensors(offset, size, stride, count, legacy):
    main = Pickle({}, legacy)
    storage = ("storage", Raw(b"ctorch\nFloatStorage\n"), "0", "cpu", count) + ((None,) if legacy else ())
    rebuilt = main.encode((Raw(main.encode(storage) + b"Q"), offset, size, stride, False, OrderedDict()))
    main.code = b"}" + main.encode("x") + b"ctorch._utils\n_rebuild_tensor_v2\n" + rebuilt + b"Rs."
    main.storages = {"0": np.zeros(12, "f4")}
    with pytest.raises(UserError):
        parse_torch_file(legacy_file(main) if legacy else zip_file(main), "x")


class TestMalicious:
    @FORMATS
    def test_a_call_is_refused_by_name_and_not_made(self, legacy, tmp_path):
        victim = tmp_path / "pwned"
        value = {"state_dict": {"x": call("posix.system", f"touch {victim}")}}
        with pytest.raises(UserError, match=r"evil\.pth.*posix\.system"):
            parse_torch_file(torch_bytes(value, legacy=legacy), "evil.pth")
        assert not victim.exists()

    @pytest.mark.parametrize("protocol", range(6))
    def test_a_bare_pickle(self, protocol, tmp_path):
        class Evil:
            def __reduce__(self):
                return open, (str(tmp_path / "pwned"), "w")

        path = tmp_path / "evil.pth"
        path.write_bytes(pickle.dumps({"x": Evil()}, protocol))
        with pytest.raises(UserError, match="evil.pth"):
            read_torch_file(path)
        assert not (tmp_path / "pwned").exists()

    @pytest.mark.parametrize(
        ("code", "asked"),
        [
            (b"cbuiltins\neval\n.", "builtins.eval"),
            (b"\x8c\x08builtins\x8c\x04exec\x93.", "builtins.exec"),
            (b"cnumpy.core.multiarray\nscalar\n.", "numpy.core.multiarray.scalar"),
            (b"(ios\nsystem\n.", "INST"),
            (b"(cos\nsystem\no.", "os.system"),
            (b"\x82\x01.", "EXT1"),
            (b"ctorch\n_utils._rebuild_tensor_v2.__globals__\n.", "__globals__"),
            (b"\x8c\x06module\x85Q.", "module"),
            (b"C\x01x.", "BINBYTES"),
            (b"c__main__\n\x1b[2J\n.", "__main__"),
        ],
    )
    @FORMATS
    def test_everything_else_is_refused_by_name(self, code, asked, legacy):
        with pytest.raises(UserError, match=asked.replace(".", r"\.")) as error:
            parse_pickle(b"\x80\x04" + code, legacy)
        assert str(error.value).isprintable()

    def test_a_name_is_never_called_with_what_it_should_not_get(self):
        for name in ("torch FloatStorage", "collections OrderedDict", "torch._utils _rebuild_tensor_v2"):
            function = "c{}\n{}\n".format(*name.split()).encode()
            with pytest.raises(UserError):
                parse_pickle(function + b"(J\x01\x00\x00\x00tR.", False)

    @pytest.mark.parametrize(
        "code",
        [
            b"r\xff\xff\xff\xff" * 3 + b".",  # memo of 4 G entries
            b"]r\xff\xff\xff\xff.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f" + b"x",  # a string of 2^63 bytes
            b"X\xff\xff\xff\xffx",
            b"\x8b\xff\xff\xff\x7fx",
            b"I" + b"9" * 5000 + b"\n.",
            b"(" * 100_000 + b".",
            b"(" + b"t(" * 100_000 + b".",
            b")" + b"\x85" * 100_000 + b".",  # tuples, 100,000 deep
            b"})" + b"\x85" * 100_000 + b"Ns.",  # ... as the key of a dictionary
            b")" + b"q\x00h\x00h\x00\x86" * 1000 + b"q\x01}h\x01Ns.",  # a key that takes 2^1000 steps to hash
            b"]q\x00h\x00a.",  # a list that holds itself
            b"N" * 2_000_000 + b".",
            b".",
            b"",
            b"}(K\x01u.",
            b"h\x07.",
        ],
    )
    @FORMATS
    def test_bombs_end_at_once(self, code, legacy):
        start = time.monotonic()
        with pytest.raises(UserError):
            parse_pickle(b"\x80\x02" + code, legacy)
        assert time.monotonic() - start < 20

    def test_zip_bombs_and_tricks(self):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model/data.pkl", Pickle({}).code + bytes(10**7))
        with pytest.raises(UserError, match="compressed"):
            parse_torch_file(stream.getvalue(), "x")

        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("model/data.pkl", Pickle({}).code)
            archive.writestr("model/DATA.pkl", Pickle({}).code)
        with pytest.raises(UserError, match="two members"):
            parse_torch_file(stream.getvalue().replace(b"DATA", b"data"), "x")

        for members, message in [
            (["model/data.pkl", "model/constants.pkl"], "TorchScript"),
            (["picture.png"], "no data.pkl"),
            (["a/data.pkl", "b/data.pkl"], "data.pkl"),
        ]:
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as archive:
                for member in members:
                    archive.writestr(member, Pickle({}).code)
            with pytest.raises(UserError, match=message):
                parse_torch_file(stream.getvalue(), "x")


def test_says_what_is_wrong(tmp_path):
    for data, message in [
        (b"", "not a file of torch.save"),
        (b"\x89PNG....", "not a file of torch.save"),
        (torch_bytes([1, 2]), "holds a list"),
        (torch_bytes({"x": 1})[:-30], "damaged or cut short"),
        (torch_bytes({"x": np.ones(9, "f4")}, legacy=True)[:-1], "cut short"),
        (torch_bytes({"x": np.ones(9, "f4")}, legacy=True) + b"x", "follow the last storage"),
        (pickle.dumps(3), "a pickle, but not one of torch.save"),
    ]:
        with pytest.raises(UserError, match=message):
            parse_torch_file(data, "x")
    with pytest.raises(UserError, match="cannot be read"):
        read_torch_file(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read_torch_file(tmp_path)


def test_every_flipped_byte_of_the_zip_format_is_seen():
    """But for the names of padding fields and notes in the directory, no byte is free."""
    data = torch_bytes(small_checkpoint())
    read = parse_torch_file(data, "x")
    unseen = []
    for position in range(len(data)):
        mutated = bytearray(data)
        mutated[position] ^= 0x55
        try:
            assert repr(parse_torch_file(bytes(mutated), "x")) == repr(read)
            unseen.append(position)
        except UserError:
            pass
    directory = data.index(b"PK\x01\x02")
    assert sum(position < directory for position in unseen) <= 2 * data.count(b"FB\x08\x00Z")
    assert len(unseen) < 0.06 * len(data)


@FORMATS
def test_every_truncation_and_many_flips_end_in_one_line(legacy):
    data = torch_bytes(small_checkpoint(), legacy=legacy)
    choose = random.Random(0)
    for length in range(0, len(data), 5):
        with pytest.raises(UserError):
            parse_torch_file(data[:length], "x")
    for _ in range(400):
        mutated = bytearray(data)
        for _ in range(choose.choice((1, 1, 3, 20))):
            mutated[choose.randrange(len(data))] = choose.randrange(256)
        try:
            assert isinstance(parse_torch_file(bytes(mutated), "x"), dict)
        except UserError:
            pass


def test_reads_the_golden_checkpoints(shared):
    new = read_torch_file(shared / "golden/isrrescnet/isrrescnet_x4.pth")
    old = read_torch_file(shared / "golden/isrrescnet/isrrescnet_x4_legacy.pth")
    assert new["epoch"] == old["epoch"] == 299
    assert len(new["model_state_dict"]) == 92
    assert list(new["model_state_dict"]) == list(old["model_state_dict"])
    for key, array in new["model_state_dict"].items():
        np.testing.assert_array_equal(array, old["model_state_dict"][key])
    bare = read_torch_file(shared / "golden/srrescgan/srrescgan_x4.pth")
    assert bare["model.conv_out.weight_v"].shape == (64, 3, 5, 5)


def test_limits_the_size_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "MAX_FILE_BYTES", 100)
    (tmp_path / "big.pth").write_bytes(bytes(101))
    with pytest.raises(UserError, match="larger"):
        read_torch_file(tmp_path / "big.pth")
