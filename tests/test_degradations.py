"""isr_jax.physics.degradations: the pairs are what was asked for, and the solver's physics is what made them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import isr_jax.config
from isr_jax.config import ConfigError, DataConfig, DegradationConfig, TrainConfig, config_from_dict, config_to_dict
from isr_jax.physics.degradations import Degradations
from isr_jax.physics.kernels import motion_kernel
from isr_jax.physics.sampling import Bicubic, BoxAverage


def photographs(count=3, size=64, seed=0):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.uniform(0, 255, (count, size, size, 3)), (0, 1.5, 1.5, 0))
    return jnp.asarray(np.clip((smooth - 127) * 5 + 127, 0, 255).round(), jnp.float32)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def draw(config, hr, *, scale=2, seed=0):
    return jax.jit(Degradations(config, scale).__call__)(hr, keys(len(hr), seed))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Kernels without any symmetry, in a file."""
    kernels = np.random.default_rng(1).uniform(size=(4, 11, 11))
    path = tmp_path_factory.mktemp("kernels") / "k.npz"
    np.savez(path, kernels / kernels.sum((1, 2), keepdims=True))
    return path


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_pair_is_the_judges(measured, scale):
    """scipy.ndimage.convolve on 8 bits, wrapped, decimated: orientation, phase, border and truncation."""
    config = DegradationConfig(measured=1.0, kernels=str(measured), border="periodic", rounding="floor")
    hr = photographs(size=48)
    lr, physics, noise_std = draw(config, hr, scale=scale)
    for i, picture in enumerate(np.asarray(hr, np.uint8)):
        kernel = np.asarray(physics.inner.kernel[i], np.float64)
        kernel /= kernel.sum()
        exact = ndimage.convolve(picture.astype(np.float64), kernel, mode="wrap")[::scale, ::scale]
        judge = ndimage.convolve(picture, kernel, mode="wrap")[::scale, ::scale]
        unclear = np.abs(exact - exact.round()) < 2e-3
        np.testing.assert_array_equal(np.asarray(lr[i])[~unclear], judge[~unclear])
    assert float(jnp.abs(noise_std).max()) == 0
    np.testing.assert_allclose(physics.apply(hr), lr, atol=1.01)


@pytest.mark.parametrize(("weight", "member"), [("bicubic", Bicubic), ("box", BoxAverage)])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_reductions_are_kernels_of_the_same_family(weight, member, scale):
    config = DegradationConfig(**{weight: 1.0}, rounding="none", border="symmetric")
    hr = photographs(size=96)
    lr, physics, _ = draw(config, hr, scale=scale)
    inner = slice(6, -6)
    np.testing.assert_allclose(lr[:, inner, inner], member(scale).apply(hr)[:, inner, inner], atol=2e-3)
    np.testing.assert_allclose(physics.apply(hr), lr, atol=2e-3)


def test_behind_a_blur_the_bicubic_reduction_may_follow():
    config = DegradationConfig(bicubic=1.0, sampling="bicubic", rounding="none", border="symmetric")
    hr = photographs()
    np.testing.assert_allclose(draw(config, hr).lr, Bicubic(2).apply(hr), atol=2e-3)
    blurred = dataclasses.replace(config, bicubic=0.0, gaussian=1.0, gaussian_std=(2.0, 2.0))
    assert float(jnp.std(draw(blurred, hr).lr)) < 0.9 * float(jnp.std(draw(config, hr).lr))


def test_a_margin_shows_the_picture_beyond_the_patch():
    config = DegradationConfig(gaussian=1.0, gaussian_std=(2.0, 2.0), kernel_size=13, rounding="none")
    degradations, hr = Degradations(config, 2), photographs(size=64)
    margin = config.margin(2)
    assert margin == 3
    lr, physics, _ = draw(config, hr)
    whole = physics.apply(hr)[:, margin:-margin, margin:-margin]
    np.testing.assert_allclose(lr, whole, atol=1e-3)
    patch = degradations.crop(hr)
    assert patch.shape == (3, 52, 52, 3)
    assert lr.shape == (3, 26, 26, 3)
    told = physics.apply(patch)
    np.testing.assert_allclose(told[:, 3:-3, 3:-3], lr[:, 3:-3, 3:-3], atol=1e-3)
    assert float(jnp.abs(told - lr).max()) > 1  # at the border, where a photograph has what its solver cannot know


def test_noise_and_jpeg_act_in_their_ranges_and_shares():
    flat = jnp.full((64, 32, 32, 1), 128.0)
    noisy = DegradationConfig(bicubic=1.0, kernel_size=9, noise_std=(5.0, 10.0), noise_free=0.5, rounding="none")
    lr, _, level = draw(noisy, flat)
    np.testing.assert_allclose(jnp.std(lr, axis=(1, 2, 3)), level, rtol=0.25)
    assert 0.3 < float((level == 0).mean()) < 0.7
    assert ((level == 0) | ((level >= 5) & (level <= 10))).all()
    plain = DegradationConfig(bicubic=1.0, kernel_size=9)
    photos = photographs(16)
    errors = [
        float(jnp.abs(draw(dataclasses.replace(plain, jpeg_quality=(q, q)), photos).lr - draw(plain, photos).lr).mean())
        for q in (10.0, 95.0)
    ]
    assert errors[0] > 2 * errors[1] > 0
    half = draw(dataclasses.replace(plain, jpeg_quality=(10.0, 10.0), jpeg_free=0.5), photos)
    untouched = (half.lr == draw(plain, photos).lr).all((1, 2, 3))
    assert 0.2 < float(untouched.mean()) < 0.8
    np.testing.assert_array_equal(untouched, half.physics.error_std == 0)  # each is told what was done to it
    np.testing.assert_array_equal(half.physics.outer.quality, jnp.where(untouched, jnp.inf, 10.0))


def test_chroma_is_stored_coarser_for_a_share_of_the_pictures():
    colours = jnp.asarray(np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3)).repeat(4, 1).repeat(4, 2) * 1.0)
    config = DegradationConfig(bicubic=1.0, kernel_size=9, jpeg_quality=(99.0, 100.0))
    whole = draw(config, colours).lr
    shared = draw(dataclasses.replace(config, jpeg_subsampled=0.5), colours).lr
    other = jnp.abs(shared - whole).max((1, 2, 3)) > 10
    assert 0.2 < float(other.mean()) < 0.8


def test_kinds_are_drawn_by_their_weights(measured):
    config = DegradationConfig(
        bicubic=1.0, box=1.0, gaussian=2.0, motion=3.0, measured=1.0, kernels=str(measured), kernel_size=25
    )
    degradations = Degradations(config, 2)
    kernels = np.asarray(jax.jit(jax.vmap(degradations._kernel))(keys(1000)))
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, atol=1e-4)
    of_bank = {
        kind: [any(np.array_equal(b, k) for b in bank) for k in kernels] for kind, bank in degradations._banks.items()
    }
    shares = {kind: np.mean(found) for kind, found in of_bank.items()}
    drawn = kernels[~np.any(list(of_bank.values()), axis=0)]
    gaussian = np.abs(drawn - drawn[:, ::-1, ::-1]).max((1, 2)) < 1e-6  # each is its own half turn, no motion is
    shares |= {"gaussian": gaussian.sum() / 1000, "motion": (~gaussian).sum() / 1000}
    expected = {"bicubic": 1 / 8, "box": 1 / 8, "measured": 1 / 8, "gaussian": 2 / 8, "motion": 3 / 8}
    assert shares == pytest.approx(expected, abs=0.05)
    assert (kernels[:, 12, 12] > 0).mean() > 0.8


def test_motion_kernels_reach_as_far_as_real_ones():
    kernels = np.asarray(jax.jit(jax.vmap(lambda key: motion_kernel(key, 25, (6, 45))))(keys(300)))
    y, x = np.mgrid[-12:13, -12:13]
    centre = np.stack([(kernels * a).sum((1, 2)) for a in (y, x)])
    assert 1 < np.abs(centre).max() < 2.6
    spread = np.sqrt(
        (kernels * ((y - centre[0][:, None, None]) ** 2 + (x - centre[1][:, None, None]) ** 2)).sum((1, 2))
    )
    assert np.quantile(spread, 0.1) < 2.5
    assert np.quantile(spread, 0.9) > 4
    assert (kernels >= 0).all()
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, atol=1e-5)
    extents = [max(np.ptp(i) for i in np.nonzero(k > 1e-3)) for k in kernels]
    assert np.quantile(extents, 0.9) > 17
    assert np.median([np.count_nonzero(k > 0.1 * k.max()) for k in kernels]) < 75  # a path, not a spot


def test_a_motion_that_is_too_long_for_its_kernel_is_made_smaller():
    kernels = np.asarray(jax.jit(jax.vmap(lambda key: motion_kernel(key, 7, (90, 99))))(keys(50)))
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, atol=1e-5)
    assert (kernels.max((1, 2)) < 0.9).mean() > 0.5


def test_patches_that_are_not_compressed_are_rounded_only_where_that_is_asked_for():
    options = {"bicubic": 1.0, "kernel_size": 9, "noise_std": (1.0, 2.0), "jpeg_quality": (50.0, 90.0)}
    config = DegradationConfig(**options, jpeg_free=0.5, rounding="none")
    whole = (draw(config, photographs(16)).lr % 1 == 0).all((1, 2, 3))
    assert 0.2 < float(whole.mean()) < 0.8


def test_flat_pictures_stay_flat_when_cut_off():
    config = DegradationConfig(gaussian=1.0, motion=1.0, border="periodic", rounding="floor")
    values = jnp.array([0.0, 100.0, 255.0]).repeat(4)[:, None, None, None]
    lr = draw(config, values * jnp.ones((1, 32, 32, 1))).lr
    np.testing.assert_array_equal(lr, values * jnp.ones_like(lr))


def test_only_what_is_drawn_needs_to_fit():
    assert draw(DegradationConfig(gaussian=1.0, kernel_size=5), photographs(), scale=4).lr.shape == (3, 14, 14, 3)


def test_draws_depend_on_the_key_of_the_picture_alone():
    config = DegradationConfig(gaussian=1.0, motion=1.0, noise_std=(0.0, 9.0), jpeg_quality=(30.0, 90.0))
    hr = photographs(4)
    whole = draw(config, hr)
    np.testing.assert_array_equal(whole.lr, draw(config, hr).lr)
    assert (np.asarray(whole.lr) != np.asarray(draw(config, hr, seed=1).lr)).any()
    part = jax.jit(Degradations(config, 2).__call__)(hr[2:], keys(4)[2:])
    np.testing.assert_allclose(part.lr, whole.lr[2:], atol=1.01)  # a value on the edge of two levels may fall otherwise
    assert float((np.asarray(part.lr) != np.asarray(whole.lr[2:])).mean()) < 0.01
    np.testing.assert_array_equal(part.noise_std, whole.noise_std[2:])


def test_what_the_solver_is_told_may_be_less():
    config = DegradationConfig(gaussian=1.0, noise_std=(1.0, 2.0), told="bicubic", told_noise=False)
    _, physics, noise_std = draw(config, photographs())
    assert isinstance(physics, Bicubic)
    assert noise_std is None


@pytest.mark.parametrize("widths", [(0.5, 1.0), (2.0, 3.0)])
def test_the_solver_may_be_told_wrong_widths(widths):
    """Of Gaussians alone, each patch's its own, and the pictures stay what they are."""
    right = DegradationConfig(gaussian=1.0, gaussian_std=widths, anisotropic=False)
    hr = photographs(8)
    (lr, exact, _), (same, told, _) = (draw(dataclasses.replace(right, told_error=e), hr) for e in (0.0, 0.2))
    np.testing.assert_array_equal(lr, same)
    offsets = np.arange(-12, 13)
    variances = [(np.asarray(p.inner.kernel)[..., 0].sum(2) * offsets**2).sum(1) for p in (exact, told)]
    errors = np.sqrt(variances[1] + 1) - np.sqrt(variances[0] + 1)  # at x2, HR pixels, of what an LR picture shows
    assert np.abs(errors).max() < 0.4 + 1e-3
    assert errors.min() < -0.1
    assert errors.max() > 0.1
    moved = DegradationConfig(motion=1.0, told_error=0.2)
    lr, told, _ = draw(moved, hr)
    margin = moved.margin(2)
    np.testing.assert_allclose(told.apply(hr)[:, margin:-margin, margin:-margin], lr, atol=0.51)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gaussian": 1.0, "told_error": -0.1}, "told_error is -0.1"),
        ({"gaussian": 1.0, "told_error": 0.1, "told": "bicubic"}, "told_error needs"),
        ({"gaussian": 1.0, "gaussian_std": (2.0, 1.0)}, "gaussian_std is .*smaller value first"),
        ({"gaussian": -1.0}, "gaussian is -1"),
        ({"kernel_size": 24}, "odd"),
        ({"measured": 1.0}, "go together"),
        ({"noise_std": (1.0, 2.0)}, "no physics"),
        ({"bicubic": 1.0, "jpeg_quality": (0.0, 50.0)}, "jpeg_quality is 0"),
        ({"motion": 1.0, "kernel_size": 5}, r"kernel_size is 5; motion needs"),
        (
            {"gaussian": 1.0, "told": "bicubik"},
            r"told is 'bicubik' \(did you mean bicubic\?\); choose",
        ),
        ({"gaussian": 1.0, "told": "blur"}, "told is 'blur', which needs a kernel"),
    ],
)
def test_configurations_without_a_meaning_are_refused(options, message, unchecked_shapes):
    with pytest.raises(ConfigError, match=message):
        DegradationConfig(**options)


def test_kernels_that_cannot_be_used_are_one_line(tmp_path, measured):
    (tmp_path / "none.npz").write_bytes(b"no kernels")
    for file, message in ((tmp_path / "none.npz", "cannot be read"), (measured, "11 pixels does not fit into 9")):
        with pytest.raises(ConfigError, match=message):
            Degradations(DegradationConfig(measured=1.0, kernels=str(file), kernel_size=9), 2)
    with pytest.raises(ConfigError, match="kernel_size is 5; the reductions need"):
        Degradations(DegradationConfig(bicubic=1.0, kernel_size=5), 4)


def test_kernels_larger_than_the_patches_are_refused_before_anything_is_read():
    data = DataConfig(patch_size=4, degradation=DegradationConfig(gaussian=1.0))
    with pytest.raises(ConfigError, match=r"kernel_size is 25, .* data\.patch_size to at least 7"):
        TrainConfig(data=data, steps=1)


def test_the_synthesis_that_there_was_says_how_it_is_written_now():
    with pytest.raises(ConfigError, match=r"data\.synthesis, is data\.degradation now"):
        _ = isr_jax.config.SynthesisConfig
    old = config_to_dict(TrainConfig(steps=1))
    old["data"]["synthesis"] = {"blur_std": [0.2, 2.0]}
    with pytest.raises(ConfigError, match=r"data\.synthesis is data\.degradation now: .*gaussian_std"):
        config_from_dict(TrainConfig, old)
