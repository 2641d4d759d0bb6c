"""The programs of a few lines that the library is for, as a user writes them: public names alone."""

import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import isr_jax
from isr_jax.config import DataConfig, ERDConfig, ModelConfig, OptimizerConfig, ScheduleConfig, TrainConfig


def photograph(package, name):
    """One that comes inside a Python package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs a photograph that {package} brings")
    return np.asarray(Image.open(Path(spec.origin).parent / name).convert("RGB"))


def china():
    return photograph("sklearn", "datasets/images/china.jpg")


def grace_hopper():
    return photograph("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")


def texture(shape=(96, 120), seed=0):
    """Edges and waves, for where there are no photographs."""
    rng, (rows, cols) = np.random.default_rng(seed), np.mgrid[: shape[0], : shape[1]]
    x = np.full((*shape, 3), 128.0)
    for _ in range(24):
        a, b, c = rng.normal(size=3)
        inside = (a * (rows - rng.uniform(0, shape[0])) + b * (cols - rng.uniform(0, shape[1])) > 0) & (
            np.hypot(rows - rng.uniform(0, shape[0]), cols - rng.uniform(0, shape[1])) < 50 * abs(c)
        )
        x[inside] = rng.uniform(0, 255, 3)
    return (0.8 * x + 0.2 * (128 + 100 * np.sin(rows / 5 + cols / 7))[..., None]).clip(0, 255).astype(np.uint8)


def psnr(x, truth, border=4):
    inside = slice(border, -border)
    error = np.clip(np.asarray(x, np.float64), 0, 255) - np.asarray(truth, np.float64)
    return 10 * np.log10(255**2 / np.mean(error[..., inside, inside, :] ** 2))


# ------------------------------------------------------------------------------------------------- one's own camera

CAMERA = '''
import isr_jax

class Camera(isr_jax.Physics):
    """A sensor of half as many pixels along each side, whose lower half gathers three times as much light."""

    scale = 2

    def apply(self, x):
        rows = (x[:, ::2] + 3 * x[:, 1::2]) / 4
        return (rows[:, :, ::2] + rows[:, :, 1::2]) / 2
'''


def own_camera(folder, photos, held_back):
    """Returns what the camera's first estimate and the model trained for it score."""
    from my_camera import Camera  # pyright: ignore[reportMissingImports]

    isr_jax.check_physics(Camera(), (6, 6, 3))

    def observe(hr):
        return np.clip(np.round(Camera().observe(jnp.asarray(hr[None], jnp.float32))), 0, 255).astype(np.uint8)[0]

    for name in ("HR", "LRx2"):
        (folder / name).mkdir(parents=True)
    for i, hr in enumerate(photos):
        Image.fromarray(hr).save(folder / "HR" / f"{i}.png")
        Image.fromarray(observe(hr)).save(folder / "LRx2" / f"{i}.png")
    prior = ERDConfig(
        features=16,
        num_blocks=2,
        feedback_steps=0,
        kernel_size=3,
        border="zero",
        weight_norm=False,
        first_shortcut=True,
        resolution="lr",
    )
    model = ModelConfig(
        scale=2,
        num_stages=1,
        physics="my_camera:Camera",
        extrapolation=False,
        projection=False,
        clip=False,
        prior=prior,
    )
    data = DataConfig(
        train=(str(folder),),
        cache_dir=str(folder / "cache"),
        tile_size=96,
        patch_size=24,
        batch_size=8,
        placement="memory",
        augment=False,  # turned pictures would be another camera's
    )
    optimizer = OptimizerConfig(b2=0.99, ema_decay=0.95)
    schedule = ScheduleConfig(learning_rate=4e-3, warmup_steps=10)
    isr_jax.fit(
        TrainConfig(model=model, data=data, optimizer=optimizer, schedule=schedule, steps=200),
        folder / "run",
        quiet=True,
    )
    lr = observe(held_back)
    sr = isr_jax.load(folder / "run").upscale(lr)
    return psnr(Camera().initial_estimate(jnp.asarray(lr[None], jnp.float32))[0], held_back), psnr(sr, held_back)


@pytest.fixture
def camera_module(tmp_path, monkeypatch):
    (tmp_path / "my_camera.py").write_text(CAMERA)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_camera", None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["photographs", "textures"])
def test_ones_own_camera_from_a_class_to_a_trained_model(kind, tmp_path, camera_module):
    if kind == "photographs":
        photos = [china()[i : i + 192, j : j + 192] for i in (20, 210) for j in (30, 230, 420)]
        held_back = grace_hopper()[100:292, 120:312]
    else:
        photos, held_back = [texture(seed=seed) for seed in range(6)], texture(seed=9)
    start, ours = own_camera(tmp_path / "data", photos, held_back)
    assert ours > start + (1 if kind == "photographs" else 0.3)


# ------------------------------------------------------------------------------- a hundred pictures, kernels and noises


@pytest.mark.parametrize("data_step", [pytest.param("gradient", marks=pytest.mark.slow), "closed_form"])
def test_a_hundred_pictures_with_a_kernel_and_a_noise_each_are_one_compilation(data_step, tmp_path):
    from random_model import random_model

    from isr_jax.models.model_file import save_model

    prior = ERDConfig(
        features=4, num_blocks=1, feedback_steps=0, kernel_size=3, weight_norm=False, resolution="lr", noise_plane=True
    )
    config = ModelConfig(scale=2, num_stages=2, physics="blur", projection=False, data_step=data_step, prior=prior)
    save_model(tmp_path / "model.safetensors", random_model(config))
    rng = np.random.default_rng(0)
    lr = rng.integers(0, 256, (100, 14, 12, 3), np.uint8)
    kernels = [rng.uniform(size=(n, n)) for n in rng.choice([3, 5, 7, 9], 100)]
    kernels = [kernel / kernel.sum() for kernel in kernels]
    noise_std = rng.uniform(0, 10, 100)

    model = isr_jax.load(tmp_path / "model.safetensors", batch_size=100)
    hr = model.upscale_batch(lr, blur=kernels, noise_std=noise_std)

    assert hr.shape == (100, 28, 24, 3)
    assert model.compilations + model.cache_hits == 1
    largest = [i for i in range(100) if len(kernels[i]) == 9]  # the closed form's margin depends on the largest kernel
    for i in (0, 41, 99) if data_step == "gradient" else largest[:3]:
        alone = model.upscale_batch(lr[i : i + 1], blur=kernels[i], noise_std=noise_std[i])
        np.testing.assert_allclose(alone[0], hr[i], atol=0.05)
    other = model.upscale_batch(lr[:1], blur=kernels[1], noise_std=noise_std[0])
    assert np.abs(other[0] - hr[0]).max() > 1  # the kernel counts


# ---------------------------------------------------------------------------------------------------- plug and play


def gradient(x):
    return jnp.stack([jnp.diff(x, axis=a, append=jax.lax.slice_in_dim(x, -1, None, axis=a)) for a in (1, 2)])


def total_variation(x, noise_std):
    """Denoises by min 1/2 ||u - x||^2 + w TV(u), by projected steps on the dual (Chambolle 2005)."""
    w = 0.5 * noise_std
    divergence = jax.linear_transpose(gradient, x)

    def step(p, _):
        p = p + gradient(x - w * divergence(p)[0]) / (8 * w)
        return p / jnp.maximum(1, jnp.sqrt(jnp.sum(p**2, axis=(0, 4), keepdims=True))), None

    p, _ = jax.lax.scan(step, jnp.zeros((2, *x.shape)), length=20)
    return x - w * divergence(p)[0]


def splitting(*arguments, **options):
    return isr_jax.half_quadratic_splitting(*arguments, num_stages=24, **options)


TV = isr_jax.Denoiser(total_variation)


def scores(physics, truth, noise_std, solve):
    """Returns what the first estimate scores, and what plug and play does."""
    y = physics.observe(jnp.asarray(truth[None], jnp.float32), jax.random.key(0), noise_std)
    x = jax.jit(lambda physics, y: solve(physics, y, TV, noise_std=noise_std, first_noise_std=15))(physics, y)
    return psnr(physics.initial_estimate(y)[0], truth), psnr(x[0], truth)


def motion():
    """A kernel of 9 pixels along a line that is neither upright nor level."""
    kernel = np.zeros((9, 9))
    kernel[np.arange(9), [1, 2, 2, 3, 4, 5, 5, 6, 7]] = 1 / 9
    return kernel


PROGRAMS = {
    "super-resolution, blurred": lambda: (isr_jax.Decimation(2) @ isr_jax.Blur(motion()), 1.0),
    "deblurring": lambda: (isr_jax.Blur(motion()), 2.55),
    "inpainting": lambda: (isr_jax.Mask(np.random.default_rng(0).uniform(size=(96, 120)) > 0.5), 0.0),
    "demosaicking": lambda: (isr_jax.Mosaic("RGGB"), 2.0),
    "denoising": lambda: (isr_jax.Identity(), 25.0),
}


GAINS = {
    "super-resolution, blurred": (2, 5),
    "deblurring": (4, 5),
    "inpainting": (0.5, 1),
    "demosaicking": (0.1, 2),
    "denoising": (4, 5),
}
"""A little less than measured, dB, on the photograph and on the texture."""


@pytest.mark.parametrize("kind", ["photograph", pytest.param("texture", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name != "denoising" else name for name in PROGRAMS],
)
def test_one_denoiser_serves_every_problem(name, kind):
    """Better than the first estimate: bicubic, the blurred or noisy picture itself, averages, bilinear colours."""
    physics, noise_std = PROGRAMS[name]()
    truth = grace_hopper()[120:216, 190:310] if kind == "photograph" else texture()
    for solve in (splitting, isr_jax.proximal_gradient):
        start, found = scores(physics, truth, noise_std, solve)
        assert found > start + GAINS[name][kind != "photograph"]


@pytest.mark.slow
def test_a_blur_that_varies_over_the_picture():
    class Lens(isr_jax.Physics):
        """Sharp in the middle, blurred at the sides."""

        blur: isr_jax.Physics
        scale = 1

        def apply(self, x):
            sharpness = jnp.sin(jnp.linspace(0, jnp.pi, x.shape[2]))[None, None, :, None]
            return sharpness * x + self.blur.apply((1 - sharpness) * x)

    lens = Lens(blur=isr_jax.Blur(motion()))
    isr_jax.check_physics(lens, (10, 12, 1))
    truths = [texture(), grace_hopper()[120:216, 190:310]]
    for truth in truths:
        for solve in (splitting, isr_jax.proximal_gradient):
            start, found = scores(lens, truth, 1.0, solve)
            assert found > start + 5
