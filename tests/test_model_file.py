import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from test_unrolled import build, pictures, run

from isr_jax.config import ConfigError, UserError
from isr_jax.models.description import describe
from isr_jax.models.model_file import find_model, load_model, parameters_to_dict, read_metadata, save_model


def test_there_and_back_is_the_same_model(tmp_path):
    model = build(per_stage=True, learned_step=True)
    save_model(tmp_path / "run" / "model.safetensors", model, {"steps": 7, "data": {"name": "photos"}})
    for name in (tmp_path / "run" / "model.safetensors", tmp_path / "run"):
        loaded = load_model(name)
        assert loaded.config == model.config
        for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(loaded), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(run(loaded, pictures()), run(model, pictures()))
    assert read_metadata(tmp_path / "run" / "model.safetensors")["data"] == {"name": "photos"}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model.safetensors"]


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, build())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_model(path, build(), {"not JSON": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_half_precision_files_become_float32(tmp_path):
    model = build()
    halves = {name: value.astype(np.float16) for name, value in parameters_to_dict(model).items()}
    save_model(tmp_path / "half.safetensors", model, dtype=np.float16)
    assert safetensors.numpy.load_file(tmp_path / "half.safetensors")["prior.encoder.kernel"].dtype == np.float16
    loaded = load_model(tmp_path / "half.safetensors")
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype("float32")}
    for name, value in parameters_to_dict(loaded).items():
        np.testing.assert_array_equal(value, halves[name])


def test_what_is_no_model_is_named_with_its_remedy(tmp_path):
    with pytest.raises(ConfigError, match="no model nowhere"):
        find_model("nowhere")
    with pytest.raises(ConfigError, match="the model has no name"):
        find_model("")
    with pytest.raises(ConfigError, match="holds no model"):
        find_model(tmp_path)
    (tmp_path / "run").mkdir()
    for file in (tmp_path / "run" / "model.safetensors", tmp_path / "run.safetensors"):
        file.touch()
    assert find_model(tmp_path / "run") == tmp_path / "run" / "model.safetensors"
    (tmp_path / "torn").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(UserError, match="not a model file"):
        load_model(tmp_path / "torn")
    safetensors.numpy.save_file({"a": np.ones(3)}, tmp_path / "foreign")
    with pytest.raises(UserError, match="convert it first"):
        load_model(tmp_path / "foreign")


def test_files_that_do_not_fit_their_configuration_are_refused(tmp_path):
    model = build()
    wrong = parameters_to_dict(model) | {"extra": np.ones(1, np.float32), "log_radius": np.ones(4, np.float32)}
    del wrong["prior.encoder.bias"]
    save_model(tmp_path / "m", model)
    metadata = {"format": "isr_jax", "config": json.dumps(read_metadata(tmp_path / "m")["config"])}
    safetensors.numpy.save_file(wrong, tmp_path / "wrong", metadata)
    with pytest.raises(UserError, match=r"encoder.bias is missing; extra is unknown; log_radius has shape \(4,\)"):
        load_model(tmp_path / "wrong")
    safetensors.numpy.save_file({"extra": np.ones(1, np.float32)}, tmp_path / "wrong", metadata)
    with pytest.raises(UserError, match=r"log_momentum is missing; .*; and \d+ more\)"):
        load_model(tmp_path / "wrong")
    metadata["config"] = '{"colour": 3}'
    safetensors.numpy.save_file(wrong, tmp_path / "unknown", metadata)
    with pytest.raises(UserError, match="unknown field colour"):
        load_model(tmp_path / "unknown")


@pytest.mark.parametrize(("number", "said"), [(np.nan, "not finite"), (np.inf, "not finite"), (1, "int64")])
def test_numbers_that_are_none_are_refused(number, said, tmp_path):
    model = build()
    arrays = parameters_to_dict(model)
    bias = arrays["prior.encoder.bias"]
    arrays["prior.encoder.bias"] = np.full(bias.shape, number, bias.dtype if number != 1 else np.int64)
    save_model(tmp_path / "m", model)
    text = {"format": "isr_jax", "config": json.dumps(read_metadata(tmp_path / "m")["config"])}
    safetensors.numpy.save_file(arrays, tmp_path / "wrong.safetensors", text)
    with pytest.raises(UserError, match=f"prior.encoder.bias holds .*{said}.*: make it again"):
        load_model(tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match="make it again"):
        describe(tmp_path / "wrong.safetensors")


@pytest.mark.parametrize("text", ["5", "[1]", '{"data_term": 5}', "[" * 100_000])
def test_configurations_that_are_none_are_refused(text, tmp_path):
    metadata = {"format": "isr_jax", "config": text}
    safetensors.numpy.save_file({"a": np.ones(1)}, tmp_path / "wrong.safetensors", metadata)
    with pytest.raises(UserError, match="wrong.safetensors .*: (make it again|name a .safetensors file)"):
        load_model(tmp_path / "wrong.safetensors")


def test_every_parameter_has_a_name_of_its_own():
    model = build()
    names = set(parameters_to_dict(model))
    assert {"log_radius", "log_momentum", "prior.encoder.gain", "prior.blocks.1.conv2.kernel"} <= names
    assert len(names) == len(jax.tree.leaves(model))
