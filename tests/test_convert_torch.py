"""PyTorch's weights in and out, against the definitions of its layers and against what it computed."""

import hashlib
import os
import subprocess
from collections import OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from isr_jax.config import ConfigError, ERDConfig, ModelConfig, UserError
from isr_jax.models.convert_torch import export_weights, import_weights, load_released_weights
from isr_jax.models.model_file import load_model, model_from_parameters, parameters_to_dict, save_model
from isr_jax.models.torch_file import read_torch_file
from isr_jax.models.torch_names import key_table, to_ours, to_torch
from isr_jax.solver.layers import INPUT_AXIS, OUTPUT_AXIS, Conv
from isr_jax.solver.unrolled import ISRResCNet
from tests.random_model import random_model
from tests.released_weights import isrrescnet, srrescgan
from tests.torch_writer import torch_bytes

SPELLINGS = ["weight_g", "parametrizations", "plain"]


def write(path: Path, value, **options) -> Path:
    path.write_bytes(torch_bytes(value, **options))
    return path


def assert_same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype == np.float32
        assert a[name].shape == b[name].shape
        assert a[name].tobytes() == b[name].tobytes(), name


def imported_model(path: Path, **options) -> ISRResCNet:
    weights = import_weights(path, **options)
    return model_from_parameters(weights.config, weights.parameters)


# --- the axes, by the definitions ------------------------------------------------------------------------------------


def filled(layer: Conv, **values) -> Conv:
    for name, value in values.items():
        getattr(layer, name).set_value(jnp.asarray(value))
    return layer


def test_a_convolution_by_its_definition():
    """y[o] = b[o] + sum_i sum_uv g[o] v[o, i, u, v] / |v[o]| x[i, . + u, . + v], zeros outside."""
    rng = np.random.default_rng(1)
    x, v = rng.normal(size=(2, 6, 7)), rng.normal(size=(3, 2, 5, 5)).astype("f4")
    g, b = rng.normal(size=(3, 1, 1, 1)).astype("f4"), rng.normal(size=3).astype("f4")
    weight = g * v / np.sqrt((v**2).sum((1, 2, 3), keepdims=True))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2)))
    expected = b[:, None, None] + sum(
        np.einsum("oi,ihw->ohw", weight[:, :, r, c], padded[:, r : r + 6, c : c + 7])
        for r in range(5)
        for c in range(5)
    )
    layer = Conv(2, 3, 5, border="zero", weight_norm=True, norm_axis=OUTPUT_AXIS, rngs=nnx.Rngs(0))
    layer = filled(layer, kernel=to_ours(v, "conv"), gain=to_ours(g, "gain"), bias=b)
    y = layer(jnp.asarray(x.transpose(1, 2, 0)[None], jnp.float32))
    np.testing.assert_allclose(y[0].transpose(2, 0, 1), expected, atol=1e-5)


def test_a_transposed_convolution_by_its_definition():
    """Each input pixel adds its multiple of the weight around itself; the norm is per input channel."""
    rng = np.random.default_rng(2)
    x, v = rng.normal(size=(4, 6, 7)), rng.normal(size=(4, 3, 5, 5)).astype("f4")
    g, b = rng.normal(size=(4, 1, 1, 1)).astype("f4"), rng.normal(size=3).astype("f4")
    weight = g * v / np.sqrt((v**2).sum((1, 2, 3), keepdims=True))
    scattered = np.zeros((3, 6 + 4, 7 + 4))
    for i, r, c in np.ndindex(x.shape):
        scattered[:, r : r + 5, c : c + 5] += x[i, r, c] * weight[i]
    expected = b[:, None, None] + scattered[:, 2:-2, 2:-2]  # PyTorch's padding=2
    layer = Conv(4, 3, 5, border="zero", weight_norm=True, norm_axis=INPUT_AXIS, rngs=nnx.Rngs(0))
    layer = filled(layer, kernel=to_ours(v, "transposed"), gain=to_ours(g, "gain"), bias=b)
    y = layer(jnp.asarray(x.transpose(1, 2, 0)[None], jnp.float32))
    np.testing.assert_allclose(y[0].transpose(2, 0, 1), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["vector", "gain", "conv", "transposed"])
def test_both_directions_are_inverse(kind):
    shape = {"vector": (3,), "gain": (3, 1, 1, 1)}.get(kind, (3, 2, 5, 5))
    array = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_array_equal(to_torch(to_ours(array, kind), kind), array)


# --- dialects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [None, "model_state_dict", "state_dict", "params", "params_ema"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("legacy", [False, True])
def test_wrappers_and_prefixes(wrapper, prefix, legacy, tmp_path):
    state = isrrescnet()
    expected = import_weights(write(tmp_path / "plain.pth", state)).parameters
    value = OrderedDict((prefix + key, array) for key, array in state.items())
    if wrapper:
        state = {0: {"step": 3, "exp_avg": np.ones(4, "f4")}}
        value = {wrapper: value, "optimizer_state_dict": {"state": state, "param_groups": [{"lr": 1e-4}]}, "epoch": 2}
    weights = import_weights(write(tmp_path / "x.pth", value, legacy=legacy))
    assert_same(weights.parameters, expected)
    assert weights.provenance["left_out"] == (["optimizer_state_dict", "epoch"] if wrapper else [])


def test_both_spellings_of_weight_normalisation_are_one(tmp_path):
    a, b = (import_weights(write(tmp_path / f"{s}.pth", isrrescnet(spelling=s))) for s in SPELLINGS[:2])
    assert_same(a.parameters, b.parameters)
    assert a.config == b.config
    assert a.config.erd.weight_norm


def test_plain_weights(tmp_path):
    weights = import_weights(write(tmp_path / "x.pth", isrrescnet(spelling="plain")))
    assert not weights.config.erd.weight_norm
    assert "prior.encoder.gain" not in weights.parameters
    model = model_from_parameters(weights.config, weights.parameters)
    assert np.isfinite(jax.jit(lambda model, lr: model(lr))(model, jnp.full((1, 9, 9, 3), 100.0))).all()


@pytest.mark.parametrize(
    "sizes",
    [
        {"features": 8, "blocks": 1, "stages": 1},
        {"features": 2, "blocks": 7, "stages": 12, "channels": 1},
        {"size": 3, "feedback": False},
        {"duplicates": False},
    ],
)
def test_any_architecture(sizes, tmp_path):
    state = isrrescnet(**sizes)
    weights = import_weights(write(tmp_path / "x.pth", state), scale=2, mode="normal")
    config = weights.config
    assert (config.scale, config.physics) == (2, "released_decimation")
    assert config.channels == sizes.get("channels", 3)
    assert config.num_stages == sizes.get("stages", 3)
    assert config.erd.num_blocks == sizes.get("blocks", 2)
    assert config.erd.features == sizes.get("features", 4)
    assert config.erd.kernel_size == sizes.get("size", 5)
    assert config.erd.feedback_steps == (4 if sizes.get("feedback", True) else 0)
    # Every number of the file is in the model, once.
    numbers = sum(array.size for key, array in state.items() if "RBs" not in key)
    assert sum(array.size for array in weights.parameters.values()) == numbers
    assert_same(parameters_to_dict(model_from_parameters(config, weights.parameters)), weights.parameters)


def test_srrescgan(tmp_path):
    config = import_weights(write(tmp_path / "x.pth", srrescgan(), legacy=True)).config
    assert (config.physics, config.num_stages, config.noise_from) == ("none", 1, "initial")
    assert (config.extrapolation, config.erd.feedback_steps) == (False, 0)


def test_the_moving_average_goes_first(tmp_path):
    value = {"params": isrrescnet(seed=1), "params_ema": isrrescnet(seed=2)}
    weights = import_weights(write(tmp_path / "x.pth", value))
    assert_same(weights.parameters, import_weights(write(tmp_path / "y.pth", value["params_ema"])).parameters)
    assert weights.provenance["wrapper"] == "params_ema"
    assert weights.provenance["left_out"] == ["params"]


def test_feedback_steps(tmp_path):
    with_block = write(tmp_path / "with.pth", isrrescnet())
    without = write(tmp_path / "without.pth", isrrescnet(feedback=False))
    assert import_weights(with_block, feedback_steps=2).config.erd.feedback_steps == 2
    assert import_weights(without, feedback_steps=0).config.erd.feedback_steps == 0
    with pytest.raises(ConfigError, match="at least 1"):
        import_weights(with_block, feedback_steps=0)
    with pytest.raises(ConfigError, match="must be 0"):
        import_weights(without, feedback_steps=1)


def test_half_precision_is_widened(tmp_path):
    state = isrrescnet()
    halved = OrderedDict((key, array.astype("f2")) for key, array in state.items())
    halved |= {key: halved[key.replace("fbblock.RBs", "resblocks")] for key in halved if "RBs" in key}
    parameters = import_weights(write(tmp_path / "x.pth", halved)).parameters
    np.testing.assert_array_equal(parameters["log_radius"], state["alpha"].astype("f2").astype("f4"))
    assert parameters["prior.encoder.kernel"].dtype == np.float32


def test_provenance(tmp_path):
    path = write(tmp_path / "x.pth", isrrescnet())
    provenance = import_weights(path).provenance
    assert provenance["source"] == "x.pth"
    assert provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (provenance["layout"], provenance["names"]) == ("ISRResCNet", "weight_g")


def test_the_table_is_the_file():
    config = ModelConfig(num_stages=3, prior=ERDConfig(features=4, num_blocks=2))
    gan_erd = ERDConfig(features=4, num_blocks=2, feedback_steps=0)
    gan_config = ModelConfig(num_stages=1, physics="none", extrapolation=False, prior=gan_erd)
    for table, state in (
        (key_table(config, "ISRResCNet"), isrrescnet()),
        (key_table(gan_config, "SRResCGAN"), srrescgan()),
    ):
        assert {e.key: e.shape for e in table} == {k: a.shape for k, a in state.items()}
    full = key_table(ModelConfig(), "ISRResCNet")
    assert len(full) == 92
    assert sum(e.duplicate_of is not None for e in full) == 40
    assert sum(np.prod(e.shape) for e in full if not e.duplicate_of) == 388_823


# --- exactness -------------------------------------------------------------------------------------------------------


def test_everything_wrong_is_listed_at_once(tmp_path):
    state = isrrescnet()
    state["model.extra"] = np.ones(3, "f4")
    state["model.conv.bias2"] = state.pop("model.conv.bias")
    state["alpha"] = state["alpha"][None]
    state["model.resblocks.1.conv1.weight_v"] = np.ones((4, 4, 3, 2), "f4")
    state["model.resblocks.0.relu1.weight"] = state["model.resblocks.0.relu1.weight"] + 1
    state["model.conv_out.bias"] = np.ones(3, "i8")
    state["model.conv_out.weight_v"] = state["model.conv_out.weight_v"] * np.float32(np.nan)
    state["model.fbblock.compress_in.bias"] = np.full(4, 1e9, "f4")
    state["model.fbblock.compress_in.weight_v"] = np.zeros((4, 8, 1, 1), "f4")
    state["note"] = "hello"
    with pytest.raises(UserError) as error:
        import_weights(write(tmp_path / "x.pth", state))
    message = str(error.value)
    for part in (
        "model.extra is unknown",
        "model.conv.bias is missing",
        "model.conv.bias2 is unknown",
        "alpha has shape (1, 3)",
        "model.resblocks.1.conv1.weight_v has shape (4, 4, 3, 2), not (4, 4, 3, 3)",
        "model.fbblock.RBs.0.relu1.weight disagrees with model.resblocks.0.relu1.weight",
        "model.conv_out.bias holds int64",
        "model.conv_out.weight_v holds infinities or NaNs",
        "model.fbblock.compress_in.bias holds 1e+09",
        "model.fbblock.compress_in.weight_v has a channel of zeros",
        "note is a str, not a tensor",
    ):
        assert part in message
    assert "\n" not in message


def test_what_is_not_such_a_network(tmp_path):
    deep = isrrescnet()
    deep["model.resblocks.99999999999.conv1.bias"] = np.ones(4, "f4")
    for value, message in [
        ({"model": isrrescnet()}, "holds no state dict: it has model"),
        ({"conv1.weight": np.ones((3, 3), "f4")}, "neither an ISRResCNet nor"),
        ({}, "holds no state dict: it has nothing"),
        (deep, "model.resblocks.99999999999.conv1.bias is unknown"),
        (isrrescnet(size=4), "choose an odd number"),
        (isrrescnet(channels=4), "pictures have 3 channels"),
        ({**isrrescnet(), "module.alpha": np.zeros(3, "f4")}, "module.alpha disagrees"),
    ]:
        with pytest.raises(UserError, match=message) as error:
            import_weights(write(tmp_path / "x.pth", value))
        assert not isinstance(error.value, ConfigError)


def test_mixed_weight_normalisation_is_refused(tmp_path):
    state, plain = isrrescnet(), isrrescnet(spelling="plain")
    del state["model.conv.weight_g"], state["model.conv.weight_v"]
    state["model.conv.weight"] = plain["model.conv.weight"]
    with pytest.raises(UserError, match=r"model\.conv\.weight_g is missing.*model\.conv\.weight is unknown"):
        import_weights(write(tmp_path / "x.pth", state))


# --- out -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["weight_g", "parametrizations"])
@pytest.mark.parametrize("make", [isrrescnet, srrescgan])
def test_there_and_back_is_bit_exact(names, make, tmp_path):
    state = make(spelling=names)
    weights = import_weights(write(tmp_path / "x.pth", state), scale=3)
    model = model_from_parameters(weights.config, weights.parameters)
    export_weights(tmp_path / "out.safetensors", model, names=names)
    assert_same(safetensors.numpy.load_file(tmp_path / "out.safetensors"), state)
    again = import_weights(tmp_path / "out.safetensors")
    assert again.config == weights.config  # the scale, too
    assert_same(again.parameters, weights.parameters)


def test_a_trained_model_goes_out_and_comes_back(tmp_path):
    erd = ERDConfig(features=4, num_blocks=1, feedback_steps=2)
    model = random_model(ModelConfig(num_stages=2, scale=2, physics="released_bilinear", prior=erd))
    export_weights(tmp_path / "out.safetensors", model, names="parametrizations")
    back = imported_model(tmp_path / "out.safetensors")
    assert back.config == model.config
    assert_same(parameters_to_dict(back), parameters_to_dict(model))
    lr = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (1, 9, 8, 3)), jnp.float32)
    upscale = jax.jit(lambda model, lr: model(lr))
    np.testing.assert_array_equal(upscale(back, lr), upscale(model, lr))


def test_a_model_that_pytorch_cannot_hold_is_refused(tmp_path):
    erd = ERDConfig(features=4, num_blocks=1, feedback_steps=0, first_shortcut=True, border="zero")
    config = ModelConfig(num_stages=2, per_stage=True, learned_step=True, prior=erd)
    with pytest.raises(UserError) as error:
        export_weights(tmp_path / "out.safetensors", random_model(config))
    for field in (
        "per_stage is True",
        "learned_step is True",
        "prior.first_shortcut is True",
        "prior.border is 'zero'",
    ):
        assert field in str(error.value)
    assert not list(tmp_path.iterdir())


def test_golden_there_and_back(shared, tmp_path):
    source = shared / "golden/isrrescnet/isrrescnet_x4.pth"
    weights = import_weights(source)
    assert_same(load_released_weights(source, ModelConfig()), weights.parameters)
    save_model(tmp_path / "ours.safetensors", model_from_parameters(weights.config, weights.parameters))
    export_weights(tmp_path / "theirs.safetensors", load_model(tmp_path / "ours.safetensors"))
    state = read_torch_file(source)["model_state_dict"]
    assert_same(safetensors.numpy.load_file(tmp_path / "theirs.safetensors"), state)


# --- with PyTorch, in a process of its own ---------------------------------------------------------------------------

LOAD = """
import sys, torch
from torch.nn.utils import parametrizations, weight_norm
from safetensors.torch import load_file
written, saved, names = sys.argv[1:]
state, expected = load_file(written), torch.load(saved, weights_only=True)
assert state.keys() == expected.keys()
assert all(torch.equal(state[key], expected[key]) for key in state)
norm = weight_norm if names == "weight_g" else parametrizations.weight_norm
for name, layer in (("model.conv", torch.nn.Conv2d(3, 4, 5)), ("model.conv_out", torch.nn.ConvTranspose2d(4, 3, 5))):
    layer = norm(layer)
    layer.load_state_dict({k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")})
torch.save({"state_dict": state, "epoch": 3}, saved + ".zip")
torch.save({"state_dict": state, "epoch": 3}, saved + ".legacy", _use_new_zipfile_serialization=False)
"""


@pytest.mark.parametrize("names", ["weight_g", "parametrizations"])
def test_pytorch_loads_what_is_written_and_its_files_are_read(names, tmp_path):
    python = os.environ.get("ISR_JAX_TORCH_PYTHON")
    if not python:
        pytest.skip("needs $ISR_JAX_TORCH_PYTHON, a Python that has torch and safetensors")
    saved = write(tmp_path / "x.pth", isrrescnet(spelling=names))
    weights = import_weights(saved)
    written = tmp_path / "out.safetensors"
    export_weights(written, model_from_parameters(weights.config, weights.parameters), names=names)
    subprocess.run([python, "-W", "ignore", "-c", LOAD, written, saved, names], check=True)
    for suffix in (".zip", ".legacy"):
        assert_same(import_weights(f"{saved}{suffix}").parameters, weights.parameters)
