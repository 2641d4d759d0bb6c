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
from isr_jax.pictures.images import write_image


def test_a_kernel_comes_back(tmp_path):
    kernel = np.random.default_rng(0).uniform(size=(4, 3))
    np.save(tmp_path / "k.npy", kernel)
    np.testing.assert_array_equal(read_blur(str(tmp_path / "k.npy")), kernel)
    assert read_blur("1.6") == 1.6
    assert read_blur("1.6,0.8,30") == (1.6, 0.8, 30)


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
    for name, said in (("cut", f"{tmp_path}/cut.npy is damaged"), ("zero", "the blur kernel has the sum 0")):
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
