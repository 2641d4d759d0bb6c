"""isr_jax.inference.upscaler: every way of running a model gives what the model itself gives."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from random_model import SEVERAL, random_model, save_random_model

import isr_jax
from isr_jax.config import ConfigError, ERDConfig, ModelConfig, UserError
from isr_jax.inference.upscaler import Upscaler
from isr_jax.models.model_file import save_model
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import pad_kernels
from isr_jax.physics.resize import imresize
from isr_jax.physics.sampling import Bicubic, Decimation
from isr_jax.pictures.images import write_image
from isr_jax.pictures.metrics import round_to
from isr_jax.pictures.picture import Picture
from isr_jax.solver.unrolled import ISRResCNet

TINY = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3)


def make_model(**options) -> ISRResCNet:
    settings = {"scale": 2, "num_stages": 2, "physics": "none", "prior": TINY} | options  # quick to compile
    return ISRResCNet(ModelConfig(**settings), rngs=nnx.Rngs(0))


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


@jax.jit
def run(model: ISRResCNet, lr: jax.Array, **options) -> jax.Array:
    return model(lr, **options)


def whole(model: ISRResCNet, lr: np.ndarray, **options) -> np.ndarray:
    return np.asarray(run(model, lr, **options))


@pytest.fixture(scope="module")
def model() -> ISRResCNet:
    return make_model()


def test_is_the_model_in_one_program_per_shape(model):
    upscaler = Upscaler(model, batch_size=2)
    lr = pictures(5, 6, 7, 3)
    hr = upscaler.upscale_batch(lr)
    np.testing.assert_allclose(hr, whole(model, lr), atol=2e-3)
    np.testing.assert_allclose(upscaler.upscale_batch(lr[::-1])[::-1], hr, atol=2e-3)
    assert upscaler.compilations + upscaler.cache_hits == 1
    assert upscaler.seconds > 0
    assert upscaler.peak_bytes > 0
    stages = upscaler.upscale_batch(lr, all_stages=True)
    assert stages.shape == (2, 5, 12, 14, 3)
    np.testing.assert_allclose(stages[-1], hr, atol=2e-3)
    fewer = Upscaler(model, num_stages=1).upscale_batch(lr)
    np.testing.assert_allclose(fewer, stages[0], atol=2e-3)


def test_ensemble_is_the_mean_over_eight_pictures_and_turns_with_the_picture(model):
    lr = pictures(1, 5, 8, 3)
    upscaler = Upscaler(model, ensemble=True)
    hr = upscaler.upscale_batch(lr)
    total = np.zeros_like(hr)
    for turns in range(4):
        for flip in (False, True):
            x = np.rot90(lr, turns, (1, 2))
            y = whole(model, np.ascontiguousarray(x[:, ::-1] if flip else x))
            total += np.rot90(y[:, ::-1] if flip else y, -turns, (1, 2))
    np.testing.assert_allclose(hr, total / 8, atol=2e-3)
    turned = upscaler.upscale_batch(np.ascontiguousarray(np.rot90(lr, 1, (1, 2))))
    np.testing.assert_allclose(turned, np.rot90(hr, 1, (1, 2)), atol=2e-3)
    assert upscaler.compilations + upscaler.cache_hits == 2  # upright and lying
    assert upscaler.macs_per_pixel == 8 * model.macs_per_pixel()


@pytest.mark.parametrize("resolution", ["lr", "hr"])
def test_windows_give_the_whole_picture(monkeypatch, resolution):
    erd = ERDConfig(
        features=4,
        num_blocks=2,
        feedback_steps=0,
        kernel_size=3,
        resolution=resolution,
        carry_features=resolution == "lr",
    )
    model = make_model(projection=False, prior=erd, physics="bicubic", final_data_step=True)
    lr = pictures(1, 190, 97, 3)
    expected = whole(model, lr)
    monkeypatch.setattr("isr_jax.inference.runner.MAX_WINDOW_FEATURES", 16)  # grows with what the model sees
    monkeypatch.setattr("isr_jax.inference.tiles.LEAST_KEPT", 8)
    upscaler = Upscaler(model)
    hr = upscaler.upscale_batch(lr)
    ((_, height, width, _),) = upscaler.program_bytes
    assert height < 190 or width < 97
    np.testing.assert_allclose(hr, expected, atol=2e-3)
    assert np.abs(expected - np.repeat(np.repeat(lr, 2, 1), 2, 2)).mean() > 1  # the network does something


def test_windows_of_a_shipped_model(monkeypatch):
    upscaler = isr_jax.load("isr-lite-x2")
    lr = imresize(pictures(50, 78, 3), 4)[None]
    expected = upscaler.upscale_batch(lr)
    monkeypatch.setattr("isr_jax.inference.runner.MAX_WINDOW_FEATURES", 1)
    upscaler = isr_jax.load("isr-lite-x2")
    np.testing.assert_allclose(upscaler.upscale_batch(lr), expected, atol=1e-3)
    assert next(iter(upscaler.program_bytes)) != lr.shape


def test_a_hundred_sizes_are_a_dozen_programs_and_the_second_run_none(tmp_path):
    save_random_model(tmp_path / "model.safetensors", 2)
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import jax, numpy as np
jax.config.update("jax_compilation_cache_dir", {str(tmp_path / "cache")!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
from isr_jax.inference.upscaler import load
upscaler, rng = load({str(tmp_path / "model.safetensors")!r}), np.random.default_rng(0)
sizes = {{tuple(size) for size in rng.integers(1, 90, (120, 2)).tolist()}}
assert len(sizes) > 100
for height, width in sorted(sizes):
    assert upscaler.upscale(np.full((height, width, 3), 99, np.uint8)).shape == (2 * height, 2 * width, 3)
print(upscaler.compilations, upscaler.cache_hits)
"""
    runs = [subprocess.check_output([sys.executable, "-c", script], text=True, timeout=120) for _ in range(2)]
    (compiled, hits), (again, found) = ([int(n) for n in run.split()] for run in runs)
    assert hits == again == 0
    assert 4 < compiled == found <= 12


@pytest.mark.slow
def test_sizes_that_share_windows_give_what_each_gives_alone():
    prior = ERDConfig(features=4, num_blocks=2, feedback_steps=0, kernel_size=3, border="zero", resolution="lr")
    model = random_model(
        ModelConfig(scale=2, num_stages=2, physics="bicubic", projection=False, final_data_step=True, prior=prior)
    )
    upscaler = Upscaler(model, batch_size=2)
    sizes = [(20, 20), (8, 8), (1, 40), (40, 1), (21, 25), (19, 30), (33, 9), (7, 7), (1, 1), (36, 100)]
    for height, width in sizes:
        lr = imresize(pictures(-(-height // 4), -(-width // 4), 3), size=(height, width))[None].repeat(2, axis=0)
        np.testing.assert_allclose(upscaler.upscale_batch(lr), whole(model, lr), atol=1e-3)
    assert any(key[0] != (2, *size, 3) for key, size in zip(upscaler._runner.programs.kept, sizes, strict=False))
    assert upscaler.compilations + upscaler.cache_hits < len(sizes)


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (1, 20_000), (20_000, 1)])
def test_extreme_sizes(size):
    prior = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3, border="zero", resolution="lr")
    model = random_model(ModelConfig(scale=2, num_stages=1, physics="bicubic", projection=False, prior=prior))
    hr = Upscaler(model).upscale(np.full((*size, 3), 99, np.uint8))
    assert hr.shape == (2 * size[0], 2 * size[1], 3)


def test_a_noise_level_that_is_not_given_is_that_of_the_whole_picture(monkeypatch):
    prior = ERDConfig(
        features=4, num_blocks=1, feedback_steps=0, kernel_size=3, border="zero", resolution="lr", noise_plane=True
    )
    model = random_model(ModelConfig(scale=2, num_stages=1, physics="bicubic", projection=False, prior=prior))
    lr = pictures(1, 60, 97, 3)
    monkeypatch.setattr("isr_jax.inference.runner.MAX_WINDOW_FEATURES", 16)
    monkeypatch.setattr("isr_jax.inference.tiles.LEAST_KEPT", 8)
    upscaler = Upscaler(model)
    np.testing.assert_allclose(upscaler.upscale_batch(lr), whole(model, lr), atol=2e-3)
    assert next(iter(upscaler.program_bytes)) != (1, 60, 97, 3)


def test_a_model_that_sees_the_whole_picture_is_not_cut(model):
    assert model.reach() is None
    assert make_model(projection=False, physics="released_bilinear").reach() is None


def test_upscale_keeps_type_shape_and_scale(model):
    upscaler = Upscaler(model)
    lr = pictures(6, 5, 3).round()
    exact = upscaler.upscale_batch(lr[None])[0]
    np.testing.assert_array_equal(upscaler.upscale(jax.numpy.asarray(lr)), exact)
    np.testing.assert_array_equal(upscaler.upscale(lr), exact)
    np.testing.assert_array_equal(upscaler.upscale(lr.astype(np.uint8)), round_to(exact, np.uint8))
    deep = upscaler.upscale(lr.astype(np.uint16) * 257)
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep / 257, exact, atol=0.01)
    assert upscaler.upscale(lr.astype(np.float64)).dtype == np.float64
    for shape in [(6, 5), (6, 5, 1), (1, 1), (1, 2, 3)]:
        assert upscaler.upscale(np.zeros(shape, np.uint8)).shape == (shape[0] * 2, shape[1] * 2, *shape[2:])
    for bad in (np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), np.int64), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="a picture"):
            upscaler.upscale(bad)


def test_the_range_of_floating_point_is_never_guessed(model):
    upscaler = Upscaler(model)
    lr = pictures(6, 5, 3)
    expected = upscaler.upscale(lr)
    assert expected.max() > 128
    for door in (upscaler.upscale, lambda image, **options: upscaler.upscale_batch(image[None], **options)[0]):
        with pytest.raises(ValueError, match="value_range=1 .* or value_range=255"):
            door(lr / 255)
        sr = door(lr / 255, value_range=1)
        assert sr.dtype == np.float32
        np.testing.assert_allclose(sr * 255, expected, atol=2e-3)
        np.testing.assert_allclose(
            door(lr / 255, value_range=255), upscaler.upscale_batch(lr[None] / 255, value_range=255)[0]
        )
        for value in (np.nan, np.inf, -np.inf):
            bad = lr.copy()
            bad[2, 3, 1] = value
            with pytest.raises(ValueError, match="NaN or infinite"):
                door(bad)
        with pytest.raises(ValueError, match="value_range is 1; that of uint8 is 255"):
            door(lr.astype(np.uint8), value_range=1)
    deep = (lr * 257).astype(np.uint16)
    np.testing.assert_allclose(
        upscaler.upscale_batch(deep[None])[0] / 257, upscaler.upscale(deep / np.float32(257)), atol=2e-3
    )


def test_no_pictures_are_an_empty_array(model):
    upscaler = Upscaler(model)
    none = np.zeros((0, 6, 5, 3), np.float32)
    assert upscaler.upscale_batch(none).shape == (0, 12, 10, 3)
    assert upscaler.upscale_batch(none, all_stages=True).shape == (2, 0, 12, 10, 3)
    with pytest.raises(ValueError, match="pictures have shape"):
        upscaler.upscale_batch(np.zeros((6, 5, 3), np.uint8)[..., None][..., :0])


@pytest.mark.parametrize(
    ("mode", "becomes"),
    [
        ("L", "L"),
        ("LA", "LA"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("P", "RGB"),
        ("1", "L"),
        ("CMYK", "RGB"),
        ("I;16", "I;16"),
    ],
)
def test_pillow_images_come_back_as_their_kind(model, mode, becomes):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels)
    image = image if mode == "I;16" else image.convert(mode)
    image.info["dpi"] = (72, 72)
    result = Upscaler(model).upscale(image)
    assert isinstance(result, Image.Image)
    assert (result.mode, result.size, result.info["dpi"]) == (becomes, (10, 12), (144, 144))
    if mode == becomes and mode in ("L", "RGB", "I;16"):
        np.testing.assert_array_equal(np.asarray(result), Upscaler(model).upscale(np.asarray(image)))


def test_paths_are_read_and_the_rest_is_refused_by_its_type(model, tmp_path):
    pixels = pictures(6, 5, 3).astype(np.uint8)
    write_image(tmp_path / "a.png", pixels)
    upscaler = Upscaler(model)
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(upscaler.upscale(path), upscaler.upscale(pixels))
    with pytest.raises(UserError, match="none.png: No such file"):
        upscaler.upscale(tmp_path / "none.png")
    with pytest.raises(UserError, match="the name of the picture is empty"):
        upscaler.upscale("")
    with pytest.raises(ConfigError, match="`value_range` is that of floating-point arrays"):
        upscaler.upscale(tmp_path / "a.png", value_range=1)
    with pytest.raises(ConfigError, match="no `size` is given"):
        upscaler.upscale(pixels, fit="cover")
    for bad, name in ((pixels.tolist(), "list"), (None, "NoneType"), (b"bytes", "bytes"), (3, "int")):
        with pytest.raises(TypeError, match=f"a picture is an array, a Pillow image or a path, not {name}$"):
            upscaler.upscale(bad)
    with pytest.raises(ValueError, match="mode HSV"):
        upscaler.upscale(Image.new("HSV", (4, 4)))


def test_memory_is_told_by_the_shape_that_took_it(model):
    upscaler = Upscaler(model)
    assert upscaler.peak_bytes == 0
    for shape in ((1, 30, 20, 3), (1, 6, 5, 3)):
        upscaler.upscale_batch(pictures(*shape))
    assert list(upscaler.program_bytes) == [(1, 30, 20, 3), (1, 6, 5, 3)]
    assert upscaler.peak_bytes == upscaler.program_bytes[1, 30, 20, 3]
    upscaler.program_bytes.clear()
    upscaler.upscale_batch(pictures(1, 6, 5, 3))  # compiled before
    assert 0 < upscaler.peak_bytes == upscaler.program_bytes[1, 6, 5, 3]


def test_importing_registers_no_listener():
    code = """
import jax, jax._src.monitoring as monitoring
before = len(monitoring.get_event_listeners())
import isr_jax.inference.upscaler, isr_jax.upscale
assert len(monitoring.get_event_listeners()) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_grey_through_a_colour_model_and_colour_through_a_grey_model(model):
    lr = pictures(1, 6, 5, 1)
    expected = whole(model, lr.repeat(3, axis=3)).mean(axis=3, keepdims=True)
    np.testing.assert_allclose(Upscaler(model).upscale_batch(lr), expected, atol=2e-3)
    grey = make_model(channels=1)
    lr = pictures(2, 6, 5, 3)
    expected = np.concatenate([whole(grey, lr[..., c : c + 1]) for c in range(3)], axis=3)
    np.testing.assert_allclose(Upscaler(grey).upscale_batch(lr), expected, atol=2e-3)


def test_kernel_and_noise_level_reach_the_model():
    blur = make_model(physics="blur")
    kernel = np.outer([1, 2, 1], [1, 3, 1]) / 20
    lr = pictures(1, 6, 5, 3)
    upscaler = Upscaler(blur, blur=kernel, noise_std=3)
    physics = Decimation(2) @ Blur(kernel)
    expected = whole(blur, lr, physics=physics, noise_std=np.full(1, 3, np.float32))
    np.testing.assert_allclose(upscaler.upscale_batch(lr), expected, atol=2e-3)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({"physics": "blur"}, {"blur": np.full((3, 3), np.nan)}, "holds nan"),
        ({"physics": "blur"}, {"blur": -1.0}, "`blur` is -1"),
        ({}, {"num_stages": 3}, "stages 1 to 2"),
        ({}, {"batch_size": 1.5}, "`batch_size` is 1.5; it must be at least 1, and whole"),
        ({}, {"physics": "bicubic"}, "it is one of isr_jax, such as"),
        ({}, {"num_stages": 0}, "stages 1 to 2"),
        ({}, {"noise_std": -1.0}, "`noise_std` is -1"),
        ({}, {"noise_std": float("nan")}, "`noise_std` is nan"),
        ({"projection": False}, {"noise_std": 5}, "no use of a noise level: leave out `noise_std`"),
    ],
)
def test_options_that_do_not_fit(unchecked_shapes, config, options, message):
    with pytest.raises(ConfigError, match=message):
        Upscaler(make_model(**config), **options)


def test_a_kernel_larger_than_the_picture():
    upscaler = Upscaler(make_model(physics="blur"), blur=np.full((3, 13), 1 / 39))
    with pytest.raises(ConfigError, match="the blur kernel is 3x13, larger than the picture of 10x12"):
        upscaler.upscale(np.zeros((5, 6, 3), np.uint8))
    assert upscaler.upscale(np.zeros((5, 7, 3), np.uint8)).shape == (10, 14, 3)


def test_pictures_keep_what_belongs_to_them(model):
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:, :4] = 200
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:, :4] = 255
    picture = Picture(pixels=pixels, alpha=alpha, icc_profile=b"profile", resolution=(72, 36), format="TIFF")
    result, exact = Upscaler(model).upscale_picture(picture, exact=True)
    assert result.pixels.shape == exact.shape == (12, 16, 3)
    assert result.alpha is not None
    np.testing.assert_array_equal(result.alpha, imresize(alpha, 2))
    assert (result.icc_profile, result.resolution, result.format) == (b"profile", (144, 72), "TIFF")
    opaque = Picture(pixels=np.full_like(pixels, 200))
    np.testing.assert_array_equal(
        Upscaler(model).upscale_picture(opaque)[0].pixels, result.pixels
    )  # no black bleeds in
    smaller, exact = Upscaler(model).upscale_picture(picture, exact=True, scale=1.5)
    assert smaller.pixels.shape == exact.shape == (9, 12, 3)
    assert smaller.resolution == (108, 54)


def test_macs_of_the_released_network():
    def macs_per_pixel(config, num_stages=None):
        return nnx.eval_shape(lambda: ISRResCNet(config, rngs=nnx.Rngs(0))).macs_per_pixel(num_stages)

    assert macs_per_pixel(ModelConfig()) / 10 == pytest.approx(1.52e6, rel=5e-3)
    erd = ERDConfig(features=32, num_blocks=2, feedback_steps=0, kernel_size=3, resolution="lr", weight_norm=False)
    config = ModelConfig(physics="bicubic", prior=erd)
    expected = (9 * (51 * 32 + 32 * 48) + 4 * 9 * 32 * 32) / 16
    assert macs_per_pixel(config, 3) == pytest.approx(3 * expected)


def test_load(model, tmp_path):
    save_model(tmp_path / "model.safetensors", model)
    lr = pictures(4, 4, 3).astype(np.uint8)
    sr = isr_jax.load(tmp_path).upscale(lr)
    np.testing.assert_array_equal(sr, Upscaler(model).upscale(lr))
    with pytest.raises(ConfigError, match="no model"):
        isr_jax.load("no-such-model")


def test_the_ensemble_turns_the_kernel_with_the_picture():
    model = make_model(physics="blur")
    kernel = np.random.default_rng(0).uniform(size=(5, 5))
    kernel, lr = (kernel / kernel.sum()).astype(np.float32), pictures(1, 8, 9, 3)
    total = 0.0
    for flip in (False, True):
        for turns in range(4):

            def turned(a, axes, flip=flip, turns=turns):
                return np.ascontiguousarray(np.rot90(np.flip(a, axes[1]) if flip else a, turns, axes))

            # What was sampled at the first pixel of each block is sampled at another one of the turned picture.
            physics = (Decimation(2) @ Blur(kernel)).turned(turns, flip)
            hr = np.rot90(whole(model, turned(lr, (1, 2)), physics=physics), -turns, (1, 2))
            total = total + (np.flip(hr, 2) if flip else hr) / 8
            np.testing.assert_allclose(physics.inner.kernel[0, ..., 0], turned(kernel, (0, 1)))
    np.testing.assert_allclose(Upscaler(model, ensemble=True, blur=kernel).upscale_batch(lr), total, atol=2e-3)


def test_what_is_known_may_differ_from_picture_to_picture():
    model = make_model(physics="blur")
    lr = pictures(3, 8, 9, 3)
    kernels = [np.full((3, 3), 1 / 9), np.eye(5) / 5, np.eye(7)[::-1] / 7]
    upscaler = Upscaler(model, batch_size=2)
    together = upscaler.upscale_batch(lr, blur=kernels, noise_std=[0, 3, 9])
    for i, level in enumerate((0.0, 3.0, 9.0)):
        alone = whole(model, lr[i : i + 1], physics=Decimation(2) @ Blur(kernels[i]), noise_std=np.full(1, level, "f4"))
        np.testing.assert_allclose(together[i], alone[0], atol=2e-3)
        np.testing.assert_allclose(upscaler.upscale(lr[i], blur=kernels[i], noise_std=level), alone[0], atol=2e-3)
    assert upscaler.compilations + upscaler.cache_hits == 4  # the batch, and a kernel of each size alone
    grey = make_model(physics="blur", channels=1)
    apart = np.concatenate(
        [whole(grey, lr[:1, ..., c : c + 1], physics=Decimation(2) @ Blur(kernels[2])) for c in range(3)], -1
    )
    np.testing.assert_allclose(Upscaler(grey).upscale_batch(lr[:1], blur=kernels[2:]), apart, atol=2e-3)
    with pytest.raises(ConfigError, match="no use of a noise level"):
        Upscaler(make_model(projection=False)).upscale(lr[0], noise_std=3)
    with pytest.raises(ConfigError, match="exclude each other"):
        upscaler.upscale(lr[0], blur=1.0, physics=Decimation(2))
    with pytest.raises(ConfigError, match="`batch_size` is 0; it must be at least 1"):
        Upscaler(make_model(), batch_size=0)
    with pytest.raises(ConfigError, match="the scale is 3; this model enlarges by 2"):
        upscaler.upscale(lr[0], physics=Decimation(3))
    with pytest.raises(ConfigError, match="`blur` has an entry each for 2 pictures, not for 3"):
        Upscaler(model).upscale_batch(lr, blur=kernels[:2])


@pytest.mark.slow
def test_all_devices_share_a_batch(tmp_path):
    script = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from flax import nnx
from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.inference.upscaler import Upscaler
from isr_jax.solver.unrolled import ISRResCNet
erd = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3)
model = ISRResCNet(ModelConfig(scale=2, num_stages=1, physics="none", prior=erd), rngs=nnx.Rngs(0))
upscaler, lr = Upscaler(model), np.random.default_rng(0).uniform(0, 255, (6, 5, 7, 3)).astype(np.float32)
together = upscaler.upscale_batch(lr)
apart = np.concatenate([upscaler.upscale_batch(one[None]) for one in lr])
np.testing.assert_allclose(together, apart, atol=2e-3)
assert {key[0][0] for key in upscaler._runner.programs.kept} == {8, 1}

model = ISRResCNet(ModelConfig(scale=2, num_stages=1, physics="blur", prior=erd), rngs=nnx.Rngs(0))
kernels = np.random.default_rng(1).uniform(size=(6, 5, 5))
kernels, noise = kernels / kernels.sum((1, 2), keepdims=True), np.arange(6.0)
upscaler = Upscaler(model)
together = upscaler.upscale_batch(lr, blur=kernels, noise_std=noise)  # the kernels are split with their pictures
apart = [upscaler.upscale_batch(lr[i : i + 1], blur=kernels[i], noise_std=noise[i]) for i in range(6)]
np.testing.assert_allclose(together, np.concatenate(apart), atol=2e-3)
assert upscaler.compilations + upscaler.cache_hits == 2
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_strength_is_the_share_of_what_the_network_does():
    model, lr = make_model(**SEVERAL), pictures(2, 8, 9, 3)
    upscaler = Upscaler(model, noise_std=2.0)
    full, half, none = (upscaler.upscale_batch(lr, strength=share) for share in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(half, (full + none) / 2, atol=1e-3)
    assert np.abs(full - none).max() > 1
    known = {"physics": Bicubic(2), "noise_std": jnp.full(2, 2.0)}
    start = jax.jit(lambda model: model(jnp.asarray(lr), num_stages=0, **known))(model)
    np.testing.assert_allclose(none, start, atol=5e-3)
    with pytest.raises(ConfigError, match="`strength` is -1; it is a share"):
        upscaler.upscale(lr[0], strength=-1)


def test_one_model_for_several_scales():
    model = make_model(**SEVERAL)
    upscaler = Upscaler(model, noise_std=1.0)
    lr, kernels = pictures(3, 8, 9, 3), np.random.default_rng(1).uniform(size=(3, 5, 5))
    kernels /= kernels.sum((1, 2), keepdims=True)
    for scale in (2, 3):
        hr = upscaler.upscale_batch(lr, scale=scale, blur=kernels)
        assert hr.shape == (3, 8 * scale, 9 * scale, 3)
        physics = Decimation(scale) @ Blur(kernels)
        np.testing.assert_allclose(hr, whole(model, lr, physics=physics, noise_std=np.ones(3, "f4")), atol=5e-3)
        one = upscaler.upscale(lr[0], scale=scale, blur=kernels[0])
        np.testing.assert_allclose(one, hr[0], atol=5e-3)
        np.testing.assert_array_equal(upscaler.upscale(lr[0], physics=Decimation(scale) @ Blur(kernels[:1])), one)
    assert upscaler.compilations + upscaler.cache_hits == 4
    again = np.stack([upscaler.upscale(p, scale=3, blur=k) for p, k in zip(lr, kernels[::-1], strict=True)])
    assert again.shape == (3, 24, 27, 3)
    assert upscaler.compilations + upscaler.cache_hits == 4  # another kernel is no other program
    between = upscaler.upscale(lr[0], scale=2.5, blur=kernels[0])  # by the next larger one
    np.testing.assert_allclose(between, imresize(one, size=(20, 22)), atol=5e-3)
    with pytest.raises(ConfigError, match="made for x2 and x3"):
        upscaler.upscale(lr[0], scale=4, blur=1.0)
    with pytest.raises(ConfigError, match="the scale is 4; this model enlarges by 2, 3"):
        upscaler.upscale_batch(lr, scale=4, blur=1.0)
    with pytest.raises(ConfigError, match="not the `scale` asked for"):
        upscaler.upscale_batch(lr, scale=2, physics=Decimation(3))


def test_a_hundred_pictures_each_with_its_kernel_and_noise_are_one_compilation():
    upscaler, rng = Upscaler(random_model(ModelConfig(scale=2, **SEVERAL))), np.random.default_rng(1)
    lr, noise = pictures(100, 8, 9, 3), rng.uniform(0, 20, 100)
    kernels = pad_kernels([rng.uniform(size=(side, side)) for side in rng.choice([3, 5, 7], 100)])
    kernels /= kernels.sum((1, 2), keepdims=True)
    hr = upscaler.upscale_batch(lr, scale=3, blur=list(kernels), noise_std=noise)
    assert hr.shape == (100, 24, 27, 3)
    assert upscaler.compilations + upscaler.cache_hits == 1
    for i in (0, 15, 16, 99):  # at the seams of the batches, too
        alone = upscaler.upscale_batch(lr[i : i + 1], scale=3, blur=kernels[i], noise_std=noise[i])
        np.testing.assert_allclose(hr[i], alone[0], atol=5e-3)
    assert upscaler.compilations + upscaler.cache_hits == 2


def test_a_name_is_no_physics(unchecked_shapes):
    with pytest.raises(ConfigError, match="`physics` is 'bicubic'; it is an object"):
        Upscaler(make_model()).upscale(np.full((8, 8, 3), 9.0, np.float32), physics="bicubic")
