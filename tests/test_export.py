"""StableHLO files, run in a process that has JAX and not this package."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError, ERDConfig, ModelConfig
from isr_jax.export import main
from isr_jax.models.export import export_stablehlo
from isr_jax.models.model_file import save_model
from isr_jax.physics.blur import Blur
from isr_jax.physics.jpeg import Jpeg
from isr_jax.physics.sampling import Decimation
from tests.random_model import random_model

LOAD = """
import sys
import numpy as np
sys.modules["isr_jax"] = None  # an import would fail
import jax
for name in sys.argv[1:]:
    exported = jax.export.deserialize(bytearray(open(name + ".stablehlo", "rb").read()))
    inputs = np.load(name + "_inputs.npz")
    np.savez(name + "_outputs.npz", **{key: exported.call(lr) for key, lr in inputs.items()})
"""
LITE = ERDConfig(features=4, num_blocks=1, feedback_steps=0, resolution="lr", weight_norm=False, carry_features=True)
SMALL = ERDConfig(features=4, num_blocks=1, feedback_steps=1)
UPSCALE = jax.jit(lambda model, lr, physics=None: model(lr, physics=physics))


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def test_runs_in_a_process_without_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    released = ModelConfig(num_stages=2, scale=2, prior=SMALL)
    lite = ModelConfig(num_stages=2, scale=3, channels=1, per_stage=True, physics="bicubic", prior=LITE)
    expected = {}
    for name, config in {"released": released, "lite": lite}.items():
        model = random_model(config)
        save_model(f"{name}.safetensors", model)
        assert exit_code(main, [f"{name}.safetensors", "--format", "stablehlo"]) == 0
        inputs = {"a": pictures(2, 13, 8, config.channels)}
        if name == "released":  # another size of the same file
            inputs["b"] = pictures(1, 9, 11, 3)
        np.savez(f"{name}_inputs.npz", allow_pickle=False, **inputs)
        expected[name] = {key: UPSCALE(model, lr) for key, lr in inputs.items()}
    subprocess.run([sys.executable, "-c", LOAD, *expected], check=True)
    for name, pictures_of in expected.items():
        outputs = np.load(f"{name}_outputs.npz")
        for key, hr in pictures_of.items():
            np.testing.assert_allclose(outputs[key], hr, atol=2e-3)


def test_fixed_size(tmp_path):
    model = random_model(ModelConfig(num_stages=1, prior=SMALL))
    exported = jax.export.deserialize(bytearray(export_stablehlo(model, size=(9, 12))))
    lr = jnp.asarray(pictures(2, 9, 12, 3))
    np.testing.assert_allclose(exported.call(lr), UPSCALE(model, lr), atol=1e-3)
    with pytest.raises(ValueError, match="shape"):
        exported.call(jnp.asarray(pictures(2, 9, 13, 3)))


def test_the_kernel_is_a_second_input():
    model = random_model(ModelConfig(num_stages=1, physics="blur", prior=SMALL))
    exported = jax.export.deserialize(bytearray(export_stablehlo(model, size=(9, 12), kernel_size=5)))
    lr, kernel = jnp.asarray(pictures(1, 9, 12, 3)), jnp.asarray(pictures(5, 5) / 255 / 12.5)
    np.testing.assert_allclose(exported.call(lr, kernel), UPSCALE(model, lr, Decimation(4) @ Blur(kernel)), atol=1e-3)


def test_what_a_model_is_told_are_inputs():
    """With the closed form, whose transforms are of one size."""
    erd = dataclasses.replace(LITE, noise_plane=True, error_plane=True)
    config = ModelConfig(num_stages=2, scale=2, scales=(2, 3), physics="blur", data_step="closed_form", prior=erd)
    model = random_model(dataclasses.replace(config, start_weights=(1e-6, 1e-4, 1e-3), noise_from="lr"))
    with pytest.raises(ConfigError, match="`size`: its Fourier transforms"):
        export_stablehlo(model, kernel_size=5)
    data = export_stablehlo(model, scale=3, size=(9, 12), kernel_size=5)
    lr, kernel, noise_std = pictures(2, 9, 12, 3), pictures(5, 5) / 255 / 12.5, np.array([0, 5], np.float32)
    physics = Jpeg(np.array([np.inf, 60])) @ Decimation(3) @ Blur(kernel)
    expected = jax.jit(lambda lr: model(lr, physics=physics, noise_std=jnp.asarray(noise_std)))(lr)
    found = jax.export.deserialize(bytearray(data)).call(lr, kernel, noise_std, np.array([0, 60], np.int32))
    np.testing.assert_allclose(found, expected, atol=5e-3)
    with pytest.raises(ConfigError, match="`scale` is 4; the model is made for x2 and x3"):
        export_stablehlo(model, scale=4, kernel_size=5)


def test_the_file_of_a_run_is_called_as_its_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    save_model("model.safetensors", random_model(ModelConfig(num_stages=1, prior=SMALL)))
    assert exit_code(main, [".", "--size", "8", "8", "--format", "stablehlo"]) == 0
    assert (tmp_path / "run" / "run.stablehlo").is_file()


def test_usage_errors():
    model = random_model(ModelConfig(num_stages=1, prior=SMALL))
    with pytest.raises(ConfigError, match="at least 8 pixels"):
        export_stablehlo(model, size=(7, 12))
    with pytest.raises(ConfigError, match="takes no `kernel_size`"):
        export_stablehlo(model, kernel_size=5)
    model = random_model(ModelConfig(num_stages=1, physics="blur", prior=SMALL))
    with pytest.raises(ConfigError, match="needs `kernel_size`"):
        export_stablehlo(model)


def test_no_model_is_overwritten_and_sizes_are_at_least_one(tmp_path, capsys):
    save_model(tmp_path / "m.safetensors", random_model(ModelConfig(num_stages=1, prior=ERDConfig(features=4))), {})
    before = (tmp_path / "m.safetensors").read_bytes()
    argv = [str(tmp_path / "m.safetensors"), str(tmp_path / "m.safetensors"), "--format", "onnx"]
    assert exit_code(main, argv) == 2
    assert "is the name of a model file: name another file" in capsys.readouterr().err
    assert (tmp_path / "m.safetensors").read_bytes() == before
    for size in (("0", "8"), ("8", "-1")):
        assert exit_code(main, [str(tmp_path / "m.safetensors"), str(tmp_path / "m.onnx"), "--size", *size]) == 2
        assert "at least 1" in capsys.readouterr().err
