"""ONNX files, run by onnxruntime, against the models they were made of."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from flax import nnx
from random_model import SEVERAL, random_model

from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError, ERDConfig, ModelConfig, PriorConfig
from isr_jax.export import main
from isr_jax.inference.conditions import blur_kernels
from isr_jax.inference.upscaler import Upscaler, load
from isr_jax.models.model_file import load_model
from isr_jax.models.onnx_file import export_onnx
from isr_jax.pictures.images import read_image
from isr_jax.solver.unrolled import ISRResCNet
from tests.blocked import run_command_blocked

GREY_LEVEL = 1 / 255
SIZES = [(1, 1), (3, 2), (24, 13), (31, 64), (70, 67)]
ERD = {"features": 4, "num_blocks": 1}
LR = {"feedback_steps": 0, "resolution": "lr", "weight_norm": False, "kernel_size": 3}


def run(data: bytes, **inputs: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def planar(pictures: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """The portrait inside matplotlib, on 0..1."""
    spec = importlib.util.find_spec("matplotlib")
    path = Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    return read_image(path).pixels.astype(np.float32) / 255


def crops(photograph: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    return np.stack([photograph[20 + 9 * i : 20 + 9 * i + height, 170 : 170 + width] for i in range(count)])


def assert_same(model: ISRResCNet, lr: np.ndarray, data: bytes, **known) -> None:
    got = run(data, input=planar(lr), **{name: np.asarray(value, np.float32) for name, value in known.items()})
    upscaler_knows = {"blur": known["kernel"], "noise_std": known["noise_std"]} if known else {}
    expected = Upscaler(model).upscale_batch(lr, value_range=1, **upscaler_knows)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, planar(expected), atol=0.01 * GREY_LEVEL)


@pytest.mark.parametrize(
    "name", ["isr-lite-x4", *(pytest.param(name, marks=pytest.mark.slow) for name in ("isr-lite-x2", "isr-lite-x3"))]
)
def test_the_shipped_models_at_any_size(name, photograph):
    model = load_model(name)
    data = export_onnx(model, name=name)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    for size in SIZES:
        assert_same(model, crops(photograph, 1, *size), data)


def test_the_papers_network_with_its_noise_and_projection(photograph):
    model = random_model(ModelConfig(num_stages=3, prior=ERDConfig(features=8, num_blocks=2, feedback_steps=2)))
    data = export_onnx(model)
    noise = np.random.default_rng(0).normal(0, 0.02, (2, 40, 40, 3)).astype(np.float32)
    for height, width in [(8, 9), (9, 8), (20, 21), (33, 40), (40, 12)]:
        assert_same(model, crops(photograph, 2, height, width) + noise[:, :height, :width], data)
    other = dataclasses.replace(model.config, num_stages=2, noise_from="initial", per_stage=True)
    model = random_model(other)
    assert_same(model, crops(photograph, 1, 12, 9), export_onnx(model))


def any_model() -> ISRResCNet:
    """Random layers, and the weights of data steps as they are at the start."""
    prior = ERDConfig(**ERD, **LR, noise_plane=True)
    several = {**SEVERAL, "start_weights": (1e-7, 1e-5, 1e-3), "data_weight": (1e-3, 1e-3), "prior": prior}
    config = ModelConfig(scale=3, **several)
    model, fresh = random_model(config), ISRResCNet(config, rngs=nnx.Rngs(0))
    for name in ("log_start_weight", "log_weight", "log_noise_weight", "log_start_noise_weight"):
        getattr(model, name).set_value(getattr(fresh, name)[...])
    return model


def test_a_model_that_is_told_blur_and_noise(photograph):
    model = any_model()
    data = export_onnx(model)
    gaussian = np.asarray(blur_kernels((1.6, 0.8, 30.0)))[0, :, :, 0]
    leaning = np.random.default_rng(0).uniform(0, 1, (4, 7)).astype(np.float32)
    for (height, width), kernel, noise in [
        ((9, 8), gaussian, 0),
        ((8, 9), leaning / leaning.sum(), 4),
        ((41, 30), gaussian, 2),
        ((20, 21), np.ones((1, 1), np.float32), 20),
        ((12, 40), leaning.T / leaning.sum(), 1),
    ]:
        assert_same(model, crops(photograph, 2, height, width), data, kernel=kernel, noise_std=[noise, noise])
    lr = crops(photograph, 1, 9, 8)
    got = run(export_onnx(model, scale=2), input=planar(lr), kernel=gaussian, noise_std=np.ones(1, np.float32))
    expected = Upscaler(model).upscale_batch(lr, value_range=1, scale=2, blur=gaussian, noise_std=1)
    np.testing.assert_allclose(got, planar(expected), atol=0.01 * GREY_LEVEL)
    with pytest.raises(ConfigError, match="made for x2 and x3"):
        export_onnx(model, scale=4)


def test_a_model_that_is_told_the_quality_of_a_file(photograph):
    config = any_model().config
    prior = dataclasses.replace(config.erd, error_plane=True)
    model, lr = random_model(dataclasses.replace(config, prior=prior)), crops(photograph, 3, 9, 14)
    kernel, noise_std = np.full((3, 3), 1 / 9, np.float32), np.zeros(3, np.float32)
    known = {"kernel": kernel, "noise_std": noise_std, "jpeg": np.array([0, 40, 75])}
    got = run(export_onnx(model), input=planar(lr), **known)
    jpeg = [np.inf, 40, 75]
    expected = Upscaler(model).upscale_batch(lr, value_range=1, blur=kernel, noise_std=noise_std, jpeg=jpeg)
    np.testing.assert_allclose(got, planar(expected), atol=0.01 * GREY_LEVEL)
    assert np.abs(expected[1] - Upscaler(model).upscale_batch(lr, value_range=1, blur=kernel)[1]).max() > GREY_LEVEL


@pytest.mark.parametrize("physics", ["bicubic", "box", "decimation", "none"])
def test_the_other_physics(physics, photograph):
    config = ModelConfig(scale=3, num_stages=2, per_stage=True, physics=physics, learned_step=physics == "box")
    model = random_model(dataclasses.replace(config, prior=ERDConfig(**ERD, **LR, carry_features=True)))
    assert_same(model, crops(photograph, 1, 9, 14), export_onnx(model))


def test_the_closed_form_of_a_known_reduction(photograph):
    config = any_model().config
    model = random_model(dataclasses.replace(config, physics="bicubic", data_step_place="before", clip=True))
    assert_same(model, crops(photograph, 1, 9, 14), export_onnx(model))


def test_layouts_bytes_and_fixed_sizes(photograph):
    lr = crops(photograph, 2, 9, 14)
    pixels = np.round(lr * 255).astype(np.uint8)
    upscaler = load("isr-lite-x2")
    model = load_model("isr-lite-x2")
    got = run(export_onnx(model, layout="nhwc"), input=lr)
    np.testing.assert_allclose(got, upscaler.upscale_batch(lr, value_range=1), atol=0.01 * GREY_LEVEL)
    got = run(export_onnx(model, layout="nhwc", input="uint8"), input=pixels)
    assert got.dtype == np.uint8
    differences = got != np.stack([upscaler.upscale(p) for p in pixels])
    assert differences.mean() < 1e-3  # where a value falls on a half
    got = run(export_onnx(model, input="uint8", size=(9, 14)), input=planar(pixels))
    assert got.shape == (2, 3, 18, 28)
    with pytest.raises(Exception, match="invalid dimensions"):
        run(export_onnx(model, size=(9, 14)), input=planar(lr[:, :8]))


def test_the_file_says_what_it_is():
    model = onnx.load_from_string(export_onnx(load_model("isr-lite-x3"), name="isr-lite-x3", license="MIT"))
    facts = {prop.key: prop.value for prop in model.metadata_props}
    assert facts.pop("isr_jax")
    assert facts == {
        "name": "isr-lite-x3",
        "scale": "3",
        "physics": "bicubic",
        "license": "MIT",
        "reach": str(load_model("isr-lite-x3").reach()),
        "parameters": str(load("isr-lite-x3").num_parameters),
        "layout": "nchw",
        "range": "0..1",
    }
    [lr], [hr] = model.graph.input, model.graph.output
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (lr, hr)]
    assert (lr.name, hr.name) == ("input", "output")
    assert dims == [["batch", 3, "height", "width"], ["batch", 3, "hr_height", "hr_width"]]


def test_tiles_that_overlap_by_the_reach_are_exact(photograph):
    lr = crops(photograph, 1, 20, 120)
    data = export_onnx(load_model("isr-lite-x2"))
    reach = int({p.key: p.value for p in onnx.load_from_string(data).metadata_props}["reach"])
    whole, left = run(data, input=planar(lr)), run(data, input=planar(lr[:, :, : 60 + reach]))
    np.testing.assert_allclose(left[..., :120], whole[..., :120], atol=1e-4 * GREY_LEVEL)
    near = run(data, input=planar(lr[:, :, : 60 + 16]))  # what darktable overlaps by; see docs/how-to/onnx.md
    np.testing.assert_allclose(near[..., :120], whole[..., :120], atol=2e-3 * GREY_LEVEL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherPrior(PriorConfig):
    implementation = "isr_jax.solver.erd:ERD"


def test_what_no_graph_is_written_for_is_refused_by_name():
    for config, message in [
        (ModelConfig(physics="released_bilinear"), '"released_bilinear" has no ONNX graph'),
        (ModelConfig(physics="blur"), '"blur" with model.data_step="gradient" has no ONNX graph'),
        (ModelConfig(physics="bicubic", data_step="conjugate_gradient"), "has no ONNX graph"),
    ]:
        with pytest.raises(ConfigError, match=message):
            export_onnx(random_model(dataclasses.replace(config, num_stages=1, prior=ERDConfig(**ERD))))
    model = random_model(ModelConfig(num_stages=1, prior=ERDConfig(**ERD)))
    model.config = dataclasses.replace(model.config, prior=OtherPrior())
    with pytest.raises(ConfigError, match="is OtherPrior; ONNX graphs are written for ERDConfig"):
        export_onnx(model)


def test_the_command(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for argv, written in [
        (["isr-lite-x2"], "isr-lite-x2.onnx"),
        (["isr-lite-x2", "a/b.onnx", "--input", "uint8", "--layout", "nhwc"], "a/b.onnx"),
        (["isr-lite-x2", "-o", "c.ONNX"], "c.ONNX"),
        (["isr-lite-x2", "d.bin", "--format", "onnx", "--size", "8", "9"], "d.bin"),
    ]:
        assert exit_code(main, argv) == 0
        assert f"wrote {written} (" in capfd.readouterr().out
        facts = {p.key: p.value for p in onnx.load(written).metadata_props}
        assert (facts["name"], facts["license"]) == ("isr-lite-x2", "MIT")
    for argv, message in [
        (["isr-lite-x2", "a.pt"], "a.pt: end its name with .onnx or .stablehlo, or give --format"),
        (["isr-lite-x2", "a"], "a: end its name with"),
        (["isr-lite-x2", "a", "--format", "onnx"], "a is a folder"),
        (["isr-lite-x2", "a.onnx", "-o", "b.onnx"], "give one"),
        (["isr-lite-x2", "a.onnx", "--scale", "3"], "--scale is 3; the model is made for x2"),
        (["isr-lite-x2", "a.onnx", "--kernel-size", "3"], "leave out --kernel-size"),
        (["isr-lite-x2", "a.stablehlo", "--layout", "nhwc"], "are of ONNX files"),
    ]:
        assert exit_code(main, argv) == 2
        said = capfd.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_without_onnx_the_command_names_the_extra(tmp_path):
    done = run_command_blocked("export", ("onnx",), "isr-lite-x2", str(tmp_path / "a.onnx"))
    assert done.returncode == 1
    assert done.stderr == "isr-jax: onnx is not installed; run: pip install 'isr_jax[onnx]'\n"
