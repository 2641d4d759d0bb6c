"""isr_jax.inference.kernels: kernels from files, good ones and damaged ones."""

import re

import numpy as np
import pytest
from random_model import random_model

from isr_jax import evaluate
from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError, ERDConfig, ModelConfig
from isr_jax.inference.conditions import blur_kernels
from isr_jax.inference.kernels import read_blur, read_kernel
from isr_jax.models.model_file import save_model
from isr_jax.pictures.images import Picture, write_image


def test_a_kernel_comes_back(tmp_path):
    kernel = np.random.default_rng(0).uniform(size=(4, 3))
    for given in (kernel, kernel[..., None] * [1, 2, 3]):  # (k, k) and (k, k, C): no colour gets brighter
        np.save(tmp_path / "k.npy", given)
        read = read_blur(str(tmp_path / "k.npy"))
        np.testing.assert_allclose(read, given / given.sum((0, 1)))
    assert read_blur("1.6") == 1.6
    assert read_blur("1.6,0.8,30") == (1.6, 0.8, 30)


@pytest.mark.parametrize("shape", [(5, 5), (4, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_of_a_kernel_is_one(tmp_path, shape, dtype):
    grey = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    for name, pixels in (("k.png", grey[..., None]), ("K.TIF", grey[..., None].repeat(3, axis=2))):
        write_image(tmp_path / name, pixels)
        np.testing.assert_allclose(read_blur(str(tmp_path / name)), grey / grey.sum(dtype=float))


def test_what_is_no_kernel_gives_one_line(tmp_path):
    for name, content in {
        "negative.npy": -np.ones((3, 3)),
        "dark.npy": np.ones((3, 3, 3)) * [1, -1, 1],
        "zero.npy": np.zeros((3, 3)),
        "empty.npy": np.zeros((0, 3)),
        "several.npy": np.ones((9, 5, 5)),
        "text.npy": np.array([["a"]]),
        "nan.npy": np.full((3, 3), np.nan),
    }.items():
        np.save(tmp_path / name, content)
    colour = np.random.default_rng(0).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    write_image(tmp_path / "colour.png", colour)
    write_image(tmp_path / "clear.png", Picture(pixels=colour[..., :1], alpha=colour[..., 1]))
    write_image(tmp_path / "black.png", np.zeros((5, 5, 1), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "black.png").read_bytes()[:40])
    for name, said in {
        "negative.npy": "has the sum -9",
        "dark.npy": "has the sum -9",
        "zero.npy": "has the sum 0",
        "empty.npy": r"\(0, 3\)",
        "several.npy": r"\(9, 5, 5\)",
        "text.npy": "holds numbers",
        "nan.npy": "holds nan",
        "colour.png": "is in colour",
        "clear.png": "transparent",
        "black.png": "has the sum 0",
        "cut.png": "is damaged",
        "none.png": "No such file",
    }.items():
        with pytest.raises(ConfigError, match=f"^[^\n]*{said}[^\n]*$"):
            read_blur(str(tmp_path / name))
    for text in ("1.6,", "", "1,6;2"):
        with pytest.raises(ConfigError, match=r"a standard deviation in HR pixels \(1\.6\)"):
            read_blur(text)
    for numbers in ((-1.0,), (1e9,), (1.0, np.nan), (1.0, 1.0, np.inf), (1.0,) * 4):
        with pytest.raises(ConfigError, match="an angle in degrees"):
            blur_kernels(numbers)


def test_a_blur_is_numbers_of_any_kind_or_keeps_the_brightness():
    three = blur_kernels((1.6, 0.8, 30.0))
    for same in (np.array([1.6, 0.8, 30.0]), tuple(np.array([1.6, 0.8, 30.0])), [1.6, np.float64(0.8), 30]):
        np.testing.assert_array_equal(blur_kernels(same), three)
    for one in (np.float32(2), np.int64(2), np.array(2.0), (np.float64(2),)):
        np.testing.assert_array_equal(blur_kernels(one), blur_kernels(2.0))
    for kernel, total in ((np.ones((5, 5)), "25"), (-np.ones((3, 3)), "-9"), (np.full((2, 3, 3), 0.2), "1.8")):
        with pytest.raises(ConfigError, match=f"has the sum {total}; a blur keeps the brightness"):
            blur_kernels(kernel)


def test_damaged_files_give_one_line(tmp_path):
    path = tmp_path / "k.npy"
    np.save(path, np.full((5, 5), 0.04, np.float32))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for number in range(400):
        data = bytearray(whole)
        for place in rng.integers(0, 128, 2):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data[: rng.integers(0, len(data))] if number % 4 == 0 else data)
        try:
            blur_kernels(read_kernel(path), color=True)
        except ConfigError as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert not any("\n" in message for message in messages)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999), }"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    for place in (path, tmp_path / "none.npy", tmp_path):
        with pytest.raises(ConfigError, match=re.escape(str(place))):
            read_kernel(place)
    np.savez(tmp_path / "k.npz", np.ones(3))
    with pytest.raises(ConfigError, match="several arrays"):
        read_kernel(tmp_path / "k.npz")


def test_evaluate_says_it_in_one_line_too(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    erd = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3)
    save_model(tmp_path / "m.safetensors", random_model(ModelConfig(scale=2, num_stages=1, physics="blur", prior=erd)))
    write_image(tmp_path / "data" / "HR" / "a.png", np.zeros((16, 16, 3), np.uint8))
    np.save(tmp_path / "zero.npy", np.zeros((3, 3)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "zero.npy").read_bytes()[:40])
    for name, said in (
        ("cut", f"{tmp_path}/cut.npy is damaged"),
        ("zero", f"{tmp_path}/zero.npy: the blur kernel has the sum 0"),
    ):
        argv = [
            "--model",
            tmp_path / "m.safetensors",
            "--data",
            tmp_path / "data",
            "--blur",
            tmp_path / f"{name}.npy",
        ]
        assert exit_code(evaluate.main, [*map(str, argv)]) == 2
        err = capfd.readouterr().err
        assert err.startswith(f"isr-jax: {said}")
        assert err.count("\n") == 1
