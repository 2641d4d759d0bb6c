"""isr_jax.physics: every member by the public check, by mathematics of its own, and as the released code has it."""

import itertools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy import ndimage

from isr_jax.config import ConfigError
from isr_jax.physics.blur import Blur
from isr_jax.physics.check import changes_when_turned, check_physics
from isr_jax.physics.fourier import closed_form, closed_form_tapered, fast_size
from isr_jax.physics.jpeg import Jpeg
from isr_jax.physics.kernels import as_kernels, gaussian_kernel, pad_kernels
from isr_jax.physics.masking import Mask, Mosaic
from isr_jax.physics.names import make_physics
from isr_jax.physics.physics import Physics
from isr_jax.physics.resampling import DENSE_SIZE
from isr_jax.physics.resize import imresize
from isr_jax.physics.sampling import Bicubic, BoxAverage, Decimation, Identity, Resize

RELEASED = ["released_bicubic", "released_bilinear", "released_kernel", "released_decimation"]


def gaussian(size, std, channels=None):
    t = np.arange(size) - (size - 1) / 2
    k = np.exp(-(t[:, None] ** 2 + 0.5 * t[None, :] ** 2 + 0.2 * t[:, None] * t[None, :]) / (2 * std**2))
    k = (k / k.sum()).astype(np.float32)
    return k if channels is None else np.stack([np.roll(k, c, axis=0) for c in range(channels)], axis=-1)


def random(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 255, shape), jnp.float32)


def kernels(count, size=5, seed=0):
    """Kernels without any symmetry, one a picture."""
    k = np.random.default_rng(seed).uniform(0, 1, (count, size, size))
    return k / k.sum((1, 2), keepdims=True)


def released(mode, scale, channels=3):
    kernel = gaussian(5, 1.2, channels)[None] if mode == "released_kernel" else None
    return make_physics(mode, scale=scale, kernel=kernel)


MEMBERS = {
    "bicubic x2": (Bicubic(2), (6, 5, 3)),
    "bicubic x3": (Bicubic(3), (4, 4, 1)),
    "bicubic x4": (Bicubic(4), (3, 4, 1)),
    "decimation": (Decimation(3, (2, 1)), (4, 5, 2)),
    "box": (BoxAverage(3), (4, 3, 1)),
    "identity": (Identity(), (5, 6, 1)),
    "mask": (Mask(np.random.default_rng(0).uniform(size=(8, 7)) > 0.5), (8, 7, 2)),
    "masks": (Mask(np.random.default_rng(0).uniform(size=(3, 8, 7)) > 0.5), (8, 7, 1)),
    "mosaic": (Mosaic("GRBG"), (6, 8, 1)),
    "own mosaic": (Mosaic(((0, 1, 2), (2, 0, 1))), (6, 6, 1)),
    "resize": (Resize(hr_size=(9, 12), lr_size=(6, 5)), (6, 5, 1)),
    "blur": (Blur(kernels(1)[0]), (9, 8, 2)),
    "blur of even size": (Blur(kernels(1)[0, :4, :2]), (9, 8, 1)),
    "blur a picture": (Blur(kernels(3)), (8, 9, 2)),
    "blur a channel": (Blur(np.stack([kernels(2, seed=s) for s in range(3)], axis=-1)), (8, 9, 3)),
    "blurs of several sizes": (Blur([kernels(1, 5)[0], kernels(1, 3)[0], kernels(1, 7)[0, :3]]), (8, 9, 1)),
    "periodic blurs": (Blur(kernels(3), "periodic"), (8, 9, 2)),
    "large blur": (Blur(kernels(1, 13)[0]), (14, 13, 1)),
    "large periodic blurs": (Blur(kernels(2, 13), "periodic"), (14, 13, 1)),
    "bicubic of a blur": (Bicubic(2) @ Blur(kernels(1)[0]), (6, 6, 1)),
    "decimation of blurs": (Decimation(2) @ Blur(kernels(3)), (6, 7, 1)),
    "decimation of periodic blurs": (Decimation(2, 1) @ Blur(kernels(3), "periodic"), (6, 7, 1)),
    "turned": ((Mosaic("RGGB") @ Blur(kernels(1)[0])).turned(1, True), (8, 6, 1)),
}


LIKE_ANOTHER = {
    "bicubic x3",
    "bicubic x4",
    "blur a picture",
    "blur a channel",
    "large blur",
    "large periodic blurs",
    "bicubic of a blur",
    "decimation of periodic blurs",
    "turned",
}
"""Members of whose kind a quicker one is there."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_ANOTHER else name for name in MEMBERS]
)
def test_every_member_is_what_it_says(name):
    physics, shape = MEMBERS[name]
    errors = check_physics(physics, shape)
    assert errors["adjoint"] < 1e-5
    assert errors["turned"] < 1e-5


class Lens(Physics):
    """A blur that varies over the picture, a user's own: two blurs, mixed by a map after the filters."""

    blurs: tuple
    scale = 1

    def apply(self, x):
        sharpness = jnp.linspace(0, 1, x.shape[2])[None, None, :, None]
        return self.blurs[0].apply(x) * sharpness + self.blurs[1].apply(x) * (1 - sharpness)


class Crooked(Physics):
    scale = 1

    def apply(self, x):
        return x + 1


class Scaleless(Physics):
    def apply(self, x):
        return x


class Lopsided(Lens):
    def adjoint(self, y):
        return self.blurs[0].adjoint(y)


def test_a_users_own_needs_apply_alone_and_the_check_names_what_fails():
    blurs = (Blur(kernels(1)[0]), Blur(kernels(1, 3)[0]))
    check_physics(Lens(blurs=blurs), (8, 9, 1))
    check_physics(Decimation(2) @ Lens(blurs=blurs), (5, 4, 1))
    with pytest.raises(AssertionError, match="^apply: H x is 0 for every picture"):
        check_physics(Mask(np.zeros((4, 4))), (4, 4, 1))
    with pytest.raises(AssertionError, match="^apply: H x is not finite"):
        check_physics(Mask(jnp.full((4, 4), jnp.nan)), (4, 4, 1))
    with pytest.raises(AssertionError, match="^scale: Scaleless has none"):
        check_physics(Scaleless(), (4, 4, 1))
    with pytest.raises(AssertionError, match=r"^linear: .* off by"):
        check_physics(Crooked(), (4, 4, 1))
    with pytest.raises(AssertionError, match=r"^adjoint: <Hx, y> against <x, H'y>: off by"):
        check_physics(Lopsided(blurs=blurs), (8, 8, 1))
    with pytest.raises(AssertionError, match="adjoint"):
        check_physics(released("released_bicubic", 2), (6, 6, 3))


def test_the_check_takes_an_object_and_a_height_a_width_and_channels(unchecked_shapes):
    with pytest.raises(ValueError, match="a height, a width and channels"):
        check_physics(Crooked(), (4, 4))
    with pytest.raises(TypeError, match=r"it is an object, as isr_jax\.Bicubic\(4\)"):
        check_physics(Crooked, (4, 4, 1))


@pytest.mark.parametrize("size", [(3, 3), (4, 4), (5, 2), (12, 12), (13, 13), (12, 13)])
@pytest.mark.parametrize(("border", "mode"), [("symmetric", "reflect"), ("periodic", "wrap")])
def test_a_blur_is_scipys_convolution(size, border, mode):
    kernel, x = np.random.default_rng(0).uniform(size=size), np.asarray(random((30, 37)))
    y = Blur(kernel, border).apply(jnp.asarray(x)[None, ..., None])[0, ..., 0]
    np.testing.assert_allclose(y, ndimage.convolve(x, kernel, mode=mode), rtol=2e-5, atol=1e-3)


@pytest.mark.parametrize(
    "physics",
    [
        Bicubic(2),
        Bicubic(3),
        Bicubic(4) @ Blur(kernels(1)[0]),
        BoxAverage(2) @ Blur(kernels(1)[0, :4, :4]),
        Decimation(3, 1),
    ],
    ids=lambda physics: type(physics).__name__,
)
def test_the_equivalent_blur_is_the_operator_away_from_the_border(physics):
    blur, x = physics.as_blur(), random((1, 96, 96, 1))
    y = Blur(blur.kernel).apply(x)[:, blur.phase[0] :: blur.scale, blur.phase[1] :: blur.scale]
    np.testing.assert_allclose(y[:, 6:-6, 6:-6], physics.apply(x)[:, 6:-6, 6:-6], atol=1e-3)


@pytest.mark.parametrize("weight", [1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("smooth", [False, True])
def test_the_closed_form_does_not_cancel_in_float32(weight, smooth):
    """Against the same minimum in float64, by a dense solve."""
    kernel, (h, w), s = kernels(1, 7)[0], (5, 6), 2
    physics = Decimation(s) @ Blur(kernel, "periodic")
    y, z = random((1, h, w, 1)), random((1, h * s, w * s, 1), 1)
    basis = np.eye(h * w * s * s).reshape(-1, h * s, w * s)
    blurred = np.stack([ndimage.convolve(e, kernel, mode="wrap")[::s, ::s].ravel() for e in basis], axis=1)
    d = weight * np.eye(h * w * s * s)
    if smooth:
        laplace = np.stack([(4 * e - sum(np.roll(e, t, a) for t in (1, -1) for a in (0, 1))).ravel() for e in basis], 1)
        d = weight * (laplace + 1e-6 * np.eye(h * w * s * s))
    right = blurred.T @ np.asarray(y, np.float64).ravel() + d @ np.asarray(z, np.float64).ravel()
    expected = np.linalg.solve(blurred.T @ blurred + d, right)
    found = closed_form(physics.as_blur(), y, z, weight, smooth=smooth)
    np.testing.assert_allclose(np.ravel(found), expected, atol=0.02)


@pytest.mark.slow
def test_on_real_pictures_the_closed_form_does_not_ring_at_the_border():
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.uniform(0, 255, (96, 112)), 3)  # from border to border it jumps
    ramp = np.linspace(0, 160, 112)[None]
    x = jnp.asarray(np.clip((smooth - 127) * 6 + 48 + ramp, 0, 255), jnp.float32)[None, ..., None]
    physics = Decimation(2) @ Blur(np.asarray(gaussian_kernel(1.6)))
    y = physics.observe(x, jax.random.key(0), 1.0)
    z = physics.initial_estimate(y)
    expected = physics.conjugate_gradients(y, z, 1e-2, iterations=200)
    found = closed_form_tapered(physics.as_blur(), y, z, 1e-2)
    naive = closed_form(physics.as_blur(), y, z, 1e-2)
    ring = np.ones(x.shape[1:3], bool)
    width = 2 * physics.reach * 2
    ring[width:-width, width:-width] = False
    rms = [float(np.sqrt(np.mean((np.asarray(found - expected)[0, ..., 0] ** 2)[ring]))) for found in (found, naive)]
    assert rms[0] < 1 < 3 < rms[1]


def test_sizes_that_are_quick_to_transform():
    assert [fast_size(n) for n in (1, 7, 97, 128, 481)] == [1, 8, 100, 128, 486]


@pytest.mark.parametrize("physics", [Bicubic(3), Decimation(3) @ Blur(kernels(1)[0]), Decimation(3)])
def test_a_gradient_step_makes_the_data_term_fall(physics):
    x, y = random((1, 36, 36, 3)), random((1, 12, 12, 3), 1)

    @jax.jit
    def descend(x, y):
        step = 1 / physics.squared_norm(y.shape)[0]

        def iterate(x, _):
            residual = physics.apply(x) - y
            return x - step * physics.adjoint(residual), jnp.sum(residual**2)

        return jax.lax.scan(iterate, x, length=10)[1]

    assert all(b <= a for a, b in itertools.pairwise(descend(x, y)))


@pytest.mark.parametrize("width", [10, DENSE_SIZE + 1])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_imresize_both_ways(scale, width):
    hr = np.asarray(random((1, 9 * scale, width * scale, 3)))
    lr = imresize(hr[0].astype(np.float64), 1 / scale)
    np.testing.assert_allclose(Bicubic(scale).apply(jnp.asarray(hr))[0], lr, atol=2e-3)
    start = Bicubic(scale).initial_estimate(jnp.asarray(lr[None], jnp.float32))[0]
    np.testing.assert_allclose(start, imresize(lr, scale), atol=2e-3)


@pytest.mark.parametrize("mode", ["bicubic", "box", "decimation", *RELEASED, "none"])
def test_a_constant_picture_starts_as_itself_but_for_the_released_dark_border(mode):
    start = np.asarray(released(mode, 2).initial_estimate(jnp.full((1, 8, 8, 3), 100.0)))
    np.testing.assert_allclose(start[:, 2:-2, 2:-2], 100, atol=1e-3)
    np.testing.assert_allclose(start[0, 0, 8], 50 if mode in RELEASED else 100, atol=1e-3)


def test_holes_and_missing_colours_are_filled():
    ramp = jnp.broadcast_to(jnp.arange(24.0)[:, None, None], (24, 20, 3))[None]
    mask = np.ones((24, 20))
    mask[8:15, 5:12] = 0
    filled = Mask(mask).initial_estimate(Mask(mask).apply(ramp))
    assert float(jnp.max(jnp.abs(filled - ramp))) < 4
    mosaic = Mosaic("BGGR")
    bilinear = mosaic.initial_estimate(mosaic.apply(ramp))
    np.testing.assert_allclose(bilinear[:, 2:-2, 2:-2], ramp[:, 2:-2, 2:-2], atol=1e-3)


def test_holes_of_a_large_picture_are_filled_in_seconds():
    """Windows as large as the picture, summed pixel by pixel, took minutes, most of them at compilation."""
    mask = np.random.default_rng(0).uniform(size=(256, 320)) > 0.5
    mask[60:200, 90:250] = 0
    y = Mask(mask).apply(jnp.broadcast_to(jnp.arange(256.0)[:, None, None], (256, 320, 3))[None])
    start = time.perf_counter()
    filled = jax.jit(lambda y: Mask(mask).initial_estimate(y))(y)
    assert time.perf_counter() - start < 20
    assert 60 < float(filled[0, 130, 170, 0]) < 200


def test_noise_is_of_the_level_that_was_asked_for():
    x = jnp.full((2, 64, 64, 3), 128.0)
    y = BoxAverage(2).observe(x, jax.random.key(0), jnp.array([2.0, 8.0]))
    np.testing.assert_allclose(jnp.std(y - 128, axis=(1, 2, 3)), [2, 8], rtol=0.05)


def test_physics_pass_through_transformations():
    stack, x, y = kernels(4), random((4, 12, 12, 1)), random((4, 6, 6, 1), 1)
    physics = Decimation(2) @ Blur(stack)
    loop = jnp.concatenate([(Decimation(2) @ Blur(k)).apply(x[i : i + 1]) for i, k in enumerate(stack)])
    np.testing.assert_allclose(jax.jit(lambda p, x: p.apply(x))(physics, x), loop, atol=1e-3)
    mapped = jax.vmap(lambda p, x: p.apply(x[None])[0], (physics.axes(), 0))(physics, x)
    np.testing.assert_allclose(mapped, loop, atol=1e-3)
    scanned = jax.lax.scan(lambda c, _: (c, physics.apply(x)), physics, length=2)[1]
    np.testing.assert_allclose(scanned[1], loop, atol=1e-3)

    def misfit(p):
        return 0.5 * jnp.sum((p.apply(x) - y) ** 2)

    slope = jax.grad(misfit)(physics).inner.kernel
    nudge = 1e-3 * jax.random.normal(jax.random.key(0), slope.shape)
    moved = [misfit(Decimation(2) @ Blur(physics.inner.kernel + sign * nudge)) for sign in (1, -1)]
    assert float(moved[0] - moved[1]) == pytest.approx(2 * float(jnp.sum(slope * nudge)), rel=1e-2)


def test_many_kernels_are_one_compilation():
    run = jax.jit(lambda p, y: p.solve(y, p.initial_estimate(y), 0.1, iterations=5))
    sizes = [3, 5, 7, 9]
    for i in range(8):
        kernel = pad_kernels([kernels(1, sizes[i % 4], seed=i)[0]], size=9)
        run(Decimation(2) @ Blur(kernel), random((1, 8, 8, 1)))
    assert run._cache_size() == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blur(np.array([[1, np.inf], [np.nan, 1]])), r"holds inf at \(0, 1\)"),
        (lambda: Blur(np.array([[1.0, -1], [0, 0]])), "has the sum 0"),
        (lambda: Blur(np.ones(3)), r"not \(3,\)"),
        (lambda: Blur(np.ones((0, 3))), r"not \(0, 3\)"),
        (lambda: Blur(np.ones((3, 3), complex)), "not complex128"),
        (lambda: Blur(np.ones((9, 9))).apply(random((1, 8, 9, 1))), "9x9, larger than the picture of 8x9"),
        (lambda: Blur(kernels(3)).apply(random((2, 9, 9, 1))), "3 blur kernels for 2 pictures"),
        (lambda: Blur(np.ones((1, 3, 3, 2))).apply(random((1, 9, 9, 3))), "2 channels, the pictures 3"),
        (
            lambda: released("released_kernel", 2).replace(kernel=np.ones((4, 4))),
            "4x4; the released term needs odd sides",
        ),
        (lambda: Mask(np.ones((8, 8))).apply(random((1, 8, 9, 1))), r"shape \(1, 8, 8\); 1 pictures of 8x9"),
        (lambda: Mask(np.ones(3)), r"not \(3,\)"),
        (lambda: Mask(np.ones((1, 8, 8, 3))), r"not \(1, 8, 8, 3\)"),
        (lambda: Mask(np.full((8, 8), np.nan)), "not finite"),
        (lambda: Mask("m.png").apply(random((1, 8, 9, 1))), r"the mask is 'm.png'; it is an array"),
        (lambda: Blur(1.6).apply(random((1, 8, 9, 1))), r"is 1\.6; it is an array, as .*gaussian_kernel\(1\.6\)"),
        (lambda: Blur(np.ones((3, 3)), "zero"), "`border` of a blur is 'zero'; choose one of symmetric, periodic"),
        (lambda: Blur(np.ones((3, 3))).apply(random((8, 9, 1))), r"one picture is x\[None\]"),
        (lambda: Bicubic(2).apply(random((1, 9, 8, 1))), "9x8: sides must be multiples of 2; crop them"),
        (lambda: BoxAverage(3).apply(random((1, 9, 8, 1))), "multiples of 3; crop them"),
        (lambda: Decimation(2).apply(random((1, 131, 8, 1))), "multiples of 2; crop them"),
        (lambda: Jpeg("75").error_std, "is '75'; it is 1 to 100"),
        (lambda: Mosaic("RGBG"), "no Bayer pattern"),
        (lambda: Mosaic(None), "rows of channel numbers"),
        (lambda: Mosaic(((0, 1), (2,))), "rows of one length"),
        (lambda: Mosaic("RGBB").pattern and Mosaic("RGB"), "no Bayer pattern"),
        (lambda: Mosaic(((0, 1), (1, 1))), "every channel"),
        (lambda: Decimation(0), "scale 0"),
        (lambda: Decimation(2, 2), "0 to 1"),
        (lambda: Decimation(2, None), "the phase None; it is one or two whole numbers, 0 to 1"),
        (lambda: Bicubic(2.5), "scale 2.5"),
        (lambda: Resize(hr_size=(4, 0), lr_size=(2, 2)), "at least 1 pixel"),
        (lambda: Resize(hr_size=8, lr_size=(2, 2)), "`hr_size` of Resize is 8; it is a height and a width"),
        (lambda: make_physics("blur", scale=2), "give `blur`"),
        (lambda: make_physics("bicubicc", scale=2), "choose one of bicubic, blur"),
        (lambda: make_physics("numpy:zeros", scale=2), "no isr_jax.Physics but ndarray"),
        (lambda: make_physics("nowhere:Camera", scale=2), "cannot be imported"),
        (lambda: make_physics("identity", scale=2), "has the scale 1, not 2"),
        (lambda: pad_kernels([np.ones((5, 5))], size=3), "5 pixels does not fit into 3"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_its_number(make, message, unchecked_shapes):
    with pytest.raises(ConfigError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_numbers_may_be_numpys(unchecked_shapes):
    assert Bicubic(np.int64(2)) == Bicubic(2)
    assert Decimation(2, np.int64(1)) == Decimation(2, (1, 1)) == Decimation(np.int32(2), [np.int64(1), 1])
    assert Resize(hr_size=[9, 12], lr_size=np.array([6, 5])) == Resize(hr_size=(9, 12), lr_size=(6, 5))
    np.testing.assert_array_equal(Jpeg(np.int64(75)).error_std, Jpeg(75).error_std)


@pytest.mark.parametrize("dtype", [np.uint8, pytest.param(np.int32, marks=pytest.mark.slow), np.float16])
def test_pictures_of_few_bits_are_those_of_float32(dtype, unchecked_shapes):
    few = np.round(np.asarray(random((1, 12, 12, 1)))).astype(dtype)
    for physics in (Blur(kernels(1)[0]), Decimation(2) @ Blur(kernels(1)[0]), Mask(np.eye(12)), Bicubic(2)):
        y, as_float = few[:, : 12 // physics.scale, : 12 // physics.scale], few.astype(np.float32)
        np.testing.assert_allclose(physics.apply(few), physics.apply(as_float), atol=0.1)
        for make in (
            physics.adjoint,
            physics.initial_estimate,
            lambda y: physics.solve(y, few.astype(y.dtype), 0.1),  # noqa: B023
            lambda y: physics.observe(few.astype(y.dtype), jax.random.key(0), 2.5),  # noqa: B023
        ):
            np.testing.assert_allclose(make(y), make(y.astype(np.float32)), atol=1e-2)


@pytest.mark.parametrize("physics", [Bicubic(2), BoxAverage(2), Decimation(2), Blur(np.ones((3, 3)) / 9), Identity()])
def test_a_batch_may_be_empty(physics):
    start = physics.initial_estimate(jnp.zeros((0, 4, 6, 3)))
    assert physics.apply(start).shape == (0, 4, 6, 3)


@pytest.mark.parametrize(("a", "b"), [((1, 5), (5, 1)), ((4, 3), (2, 4)), ((1, 15), (3, 3))])
def test_a_blur_of_a_blur_has_the_convolution_of_the_kernels(a, b):
    a, b = (np.random.default_rng(i).uniform(size=size) for i, size in enumerate((a, b)))
    impulse = np.zeros((31, 31))
    impulse[15, 15] = 1
    expected = ndimage.convolve(ndimage.convolve(impulse, b), a)
    blur = (Blur(a) @ Blur(b)).as_blur()
    found = Blur(np.asarray(blur.kernel)).apply(jnp.asarray(impulse, jnp.float32)[None, ..., None])[0, ..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_kernel_of_sum_0_may_be_asked_for():
    assert as_kernels(np.array([[1.0, -1.0]]), allow_zero_sum=True).shape == (1, 1, 2, 1)
    y = Blur(np.array([[1.0, -1.0, 0.0]]), allow_zero_sum=True).apply(random((1, 4, 5, 1)))
    assert abs(float(y.mean())) < 100


class Camera(Physics):
    """A scale of its own, as the documentation shows one."""

    scale = 2

    def apply(self, x):
        return (x[:, ::2, ::2] + x[:, 1::2, 1::2]) / 2


CAMERA = Camera()


def test_a_physics_of_ones_own_is_named_by_its_class_an_object_or_a_function_of_the_scale(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_cameras", sys.modules[__name__])
    for name in ("Camera", "CAMERA", "Bicubic"):
        physics = make_physics(f"my_cameras:{name}", scale=2)
        assert isinstance(physics, Bicubic if name == "Bicubic" else Camera)
    with pytest.raises(ConfigError, match="'my_cameras:Camera', whose scale is 2, where 4 is asked for"):
        make_physics("my_cameras:Camera", scale=4)


@pytest.mark.parametrize("mode", RELEASED)
@pytest.mark.parametrize(("size", "scale"), [((5, 6), 2), ((4, 7), 3), ((4, 3), 4)])
def test_released_operators_as_defined(mode, size, scale):
    y, x = random((*size, 3)), random((size[0] * scale, size[1] * scale, 3), 1)
    down, up = reference.data_term(mode, scale, gaussian(5, 1.2, 3))
    h = released(mode, scale)
    np.testing.assert_allclose(h.apply(x[None])[0], down(np.asarray(x)), atol=2e-3)
    np.testing.assert_allclose(h.adjoint(y[None])[0], up(np.asarray(y)), atol=2e-3)
    start = reference.bilinear_grid(np.asarray(y), size[0] * scale, size[1] * scale)
    np.testing.assert_allclose(h.initial_estimate(y[None])[0], start, atol=2e-3)


def test_aligned_corners_keep_the_corners():
    y = random((1, 4, 5, 3))
    start = make_physics("released_bilinear_aligned", scale=3).initial_estimate(y)
    corners = [0, 0, -1, -1], [0, -1, 0, -1]
    np.testing.assert_allclose(start[0, *corners], y[0, *corners], rtol=1e-5)
    np.testing.assert_allclose(start[0], reference.bilinear_grid(np.asarray(y[0]), 12, 15, True), atol=1e-3)


@pytest.mark.parametrize("name", ["bicubic", "blur", "box", "released_kernel"])
def test_products_ask_for_the_highest_precision(name):
    """On accelerators the default would be off by up to half a grey level."""
    kernel = kernels(1)[0] if name in ("blur", "released_kernel") else None
    physics = make_physics(name, scale=2, kernel=kernel)

    def both(x):
        y = physics.apply(x)
        return physics.adjoint(y), physics.initial_estimate(y)

    for x in (random((1, 16, 16, 3)), random((1, 2 * DENSE_SIZE + 4, 16, 3))):
        products = list(_products(jax.make_jaxpr(both)(x).jaxpr))
        assert products or name == "box"
        for equation in products:
            precision = equation.params["precision"]
            assert precision is not None
            assert {jax.lax.Precision.HIGHEST} == set(precision if isinstance(precision, tuple) else (precision,))


def _products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from _products(value.jaxpr)


@pytest.mark.parametrize("angle", [0.0, 0.6, np.pi / 2])
def test_a_gaussian_kernel_has_its_moments(angle):
    kernel = np.asarray(gaussian_kernel(jnp.array([2.0, 1.0]), jnp.float32(angle), 9), np.float64)
    offsets = np.arange(-9, 10)
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = turn @ np.diag([4.0, 1.0]) @ turn.T
    moments = [[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)]
    np.testing.assert_allclose(moments, expected, atol=0.02)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)


class Sparse(Physics):
    """Sees every other HR pixel of a block, and what a subclass says of it."""

    scale = 2

    def apply(self, x):
        return (x[:, ::2, ::2] + jnp.roll(x, -3, axis=2)[:, 1::2, 1::2]) / 2


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"reach": 1}, "^reach: what pixels beyond 1 add to 1: off by"),
        ({"reach": 2, "start_reach": 0}, "^start_reach: what pixels beyond 0 add"),
        ({"initial_estimate": lambda self, y: 0 * Sparse().initial_estimate(y) - 1e6}, "^initial_estimate: "),
    ],
)
def test_what_a_physics_says_wrongly_of_its_reach_and_start_is_found(members, message):
    wrong = type("Wrong", (Sparse,), members)
    with pytest.raises(AssertionError, match=message):
        check_physics(wrong(), (8, 8, 3))


def test_the_derived_start_has_no_holes_and_sees_as_far_as_an_observation():
    right = type("Right", (Sparse,), {"reach": 2})()
    assert right.start_reach == 2
    check_physics(right, (8, 8, 3))
    start = right.initial_estimate(right.apply(jnp.full((1, 8, 10, 1), 70.0)))
    np.testing.assert_allclose(start, 70, rtol=1e-5)
    assert Sparse().start_reach is None


def test_what_changes_when_it_is_turned_is_known():
    assert changes_when_turned(Sparse())
    assert not changes_when_turned(Bicubic(2))
    assert not changes_when_turned(BoxAverage(3) @ Blur(gaussian_kernel(1.0, radius=3)))
    assert changes_when_turned(Decimation(2))  # the first pixel of each block


def test_a_physics_is_composed_with_another_alone():
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = Decimation(2) @ 3  # pyright: ignore[reportOperatorIssue]
