"""isr_jax.estimate_degradation on pictures whose history is known, and on those that tell nothing."""

import io
import subprocess
import sys
import time
from dataclasses import replace
from statistics import NormalDist

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw

import isr_jax
from isr_jax.config import ConfigError, UserError
from isr_jax.inference.estimate import FoundJpeg
from isr_jax.inference.estimate_enlargement import find_enlargement
from isr_jax.inference.estimate_features import widest
from isr_jax.inference.estimate_jpeg import find_jpeg
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import read_image


def dead_leaves(side=256, seed=0, least=3.0):
    """Discs of random grey and size over each other: the edges and the spectrum of photographs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: 2 * side, : 2 * side]
    picture = np.full((2 * side, 2 * side, 3), 128.0)
    for _ in range(2500):
        radius = min(least / rng.uniform(0.03, 1), 80)
        row, col = rng.uniform(-20, 2 * side + 20, 2)
        inside = (y - row) ** 2 + (x - col) ** 2 < radius**2
        picture[inside] = rng.uniform(20, 235) + rng.uniform(-15, 15, 3)
    light = blurred(rng.normal(0, 60, (*picture.shape[:2], 1)), 3) + blurred(rng.normal(0, 12, picture.shape), 0.8)
    return imresize(picture + light, 0.5).clip(0, 255)


@pytest.fixture(scope="module")
def photo():
    return dead_leaves()


def blurred(picture, std_y, std_x=None):
    for axis, std in ((0, std_y), (1, std_y if std_x is None else std_x)):
        taps = np.exp(-0.5 * (np.arange(-8, 9) / max(std, 1e-2)) ** 2)
        padded = np.pad(picture, [(8, 8) if a == axis else (0, 0) for a in range(3)], mode="symmetric")
        size = picture.shape[axis]
        picture = sum(t * np.take(padded, range(k, k + size), axis) for k, t in enumerate(taps / taps.sum()))
    return picture


def jpeg_bytes(pixels, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(stream, "JPEG", **options)
    return stream.getvalue()


def test_a_wider_blur_is_told_wider_and_in_pixels_of_the_enlargement(photo):
    told = [isr_jax.estimate_degradation(blurred(photo, w / 4)).blur_std for w in (1.0, 2.0, 3.0, 4.0)]
    assert None not in told
    assert told == sorted(told)
    assert told[-1] - told[0] > 1.5
    lr = blurred(photo, 0.6)
    two, four = (isr_jax.estimate_degradation(lr, scale=s) for s in (2, 4))
    assert two.blur_std == pytest.approx(four.blur_std / 2, abs=2e-3)
    assert "px" in str(four)
    assert four.confidence == two.confidence
    assert four.at_scale(2).blur_std == pytest.approx(two.blur_std, abs=2e-3)
    assert four.at_scale(2).blur == pytest.approx(two.blur, abs=2e-3)
    assert four.at_scale(2).physics().scale == 2
    assert isr_jax.estimate_degradation(lr[:8, :8]).at_scale(2).blur is None


def test_the_longer_axis_and_its_angle(photo):
    for vertical in (True, False):
        estimate = isr_jax.estimate_degradation(blurred(photo, *((1.0, 0.2) if vertical else (0.2, 1.0))))
        assert estimate.blur is not None
        major, minor, angle = estimate.blur
        assert major > minor + 0.8
        assert abs((angle - (90 if vertical else 0) + 90) % 180 - 90) < 12


@pytest.mark.parametrize("level", [3.0, 10.0, 20.0])
def test_the_level_of_noise(photo, level):
    noisy = blurred(photo, 0.5) + np.random.default_rng(0).normal(0, level, photo.shape)
    assert isr_jax.estimate_degradation(noisy).noise_std == pytest.approx(level, rel=0.35)
    assert isr_jax.estimate_degradation(blurred(photo, 0.5)).noise_std < 1


@pytest.mark.parametrize(("sampling", "number"), [((1, 1), 0), ((1, 2), 1), ((2, 2), 2)])
def test_a_jpeg_file_is_believed_and_its_pixels_tell_the_same(photo, tmp_path, sampling, number):
    pixels = photo.round().astype(np.uint8)
    data = jpeg_bytes(pixels, quality=80, subsampling=number)
    (tmp_path / "photo.jpg").write_bytes(data)
    image = Image.open(io.BytesIO(data))
    for source in (data, tmp_path / "photo.jpg", image):
        jpeg = isr_jax.estimate_degradation(source).jpeg
        assert jpeg is not None
        assert jpeg.from_file
        assert (jpeg.quality, jpeg.sampling, jpeg.shift) == (80, sampling, (0, 0))
        assert jpeg.tables[0] == tuple(image.quantization[0])
    decoded = np.asarray(image)
    for top, left in ((0, 0), (3, 6), (8, 5)):
        found = isr_jax.estimate_degradation(decoded[top:, left:]).jpeg
        assert found is not None
        assert not found.from_file
        assert (found.quality, found.shift) == (80, (-top % 8, -left % 8))
        assert found.sampling in (sampling, None)
        assert found.tables == jpeg.tables


def test_a_jpeg_of_printing_inks_is_one_too(photo, tmp_path):
    Image.fromarray(photo.round().astype(np.uint8)).convert("CMYK").save(tmp_path / "a.jpg", quality=30)
    found = isr_jax.estimate_degradation(tmp_path / "a.jpg").jpeg
    assert found is not None
    assert (found.quality, found.sampling, found.from_file) == (30, None, True)


@pytest.mark.parametrize("quality", [10, 30, 60, 90])
def test_qualities_are_found_in_grey_pixels_too(photo, quality):
    pixels = np.asarray(Image.open(io.BytesIO(jpeg_bytes(photo[..., :1].round().astype(np.uint8), quality=quality))))
    found = find_jpeg(pixels[5:, 2:, None])
    assert found is not None
    assert (found.quality, found.shift, found.sampling) == (quality, (3, 6), None)


def test_clean_pictures_are_no_jpegs_and_were_not_enlarged():
    for seed in range(4):
        estimate = isr_jax.estimate_degradation(dead_leaves(128, seed).round().astype(np.uint8))
        assert estimate.jpeg is None
        assert estimate.enlarged is None


def test_flat_and_drawn_pictures_are_no_jpegs():
    y, x = np.mgrid[:96, :128]
    disc = np.where((y - 48) ** 2 + (x - 64) ** 2 < 900, 235, 40).astype(np.uint8)
    ramp = np.tile(np.linspace(0, 255, 256).round().astype(np.uint8), (64, 1))
    colour = np.full((48, 64, 3), (128, 10, 200), np.uint8)
    for pixels in (disc[..., None], ramp[..., None], colour, *(np.full((64, 64, 1), v, np.uint8) for v in (1, 9, 77))):
        assert find_jpeg(pixels) is None


@pytest.mark.parametrize("factor", [2, 2.5, 3, 4])
@pytest.mark.parametrize("how", [Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
def test_an_earlier_enlargement(photo, factor, how):
    small = Image.fromarray(photo[:200, :180].round().astype(np.uint8))
    large = np.asarray(small.resize((round(180 * factor), round(200 * factor)), how))
    assert find_enlargement(large) == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_a_page_is_no_enlargement_and_an_enlarged_page_one(seed):
    """Its blank rows are alike, too."""
    rng = np.random.default_rng(seed)
    page = Image.new("L", (420, 300), 255)
    draw = ImageDraw.Draw(page)
    for top in range(8, 290, int(rng.integers(11, 22))):
        words = "".join(rng.choice([*"etaoinshrdlu  "], rng.integers(10, 60)))
        draw.text((12, top), words, fill=0)
    assert find_enlargement(np.asarray(page)[..., None]) is None
    doubled = page.resize((840, 600), Image.Resampling.NEAREST)
    assert find_enlargement(np.asarray(doubled)[..., None]) == 2


def test_of_a_picture_too_small_to_be_measured_no_quality_is_told():
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 3, 3), 90, np.uint8)).save(stream, "JPEG", quality=50)
    estimate = isr_jax.estimate_degradation(stream.getvalue())
    assert estimate.jpeg is not None
    assert "jpeg" not in estimate.known(jpeg=True)


@pytest.mark.parametrize("width", [0.5, 1.0, 2.5])
def test_the_steepest_edge_bounds_the_width(width):
    edge = 20 + 200 * np.array([NormalDist(0, width).cdf(x + 0.5) for x in range(-16, 16)])
    windows = np.tile(edge.astype(np.float32), (3, 32, 1))
    for turned in (windows, windows.transpose(0, 2, 1)):
        assert widest(turned) == pytest.approx(width, rel=1e-3)
    assert widest(np.where(windows > 120, 255.0, 0.0)) < 0.11
    hot = windows.copy()
    hot[0, 5, 3] = 220
    assert widest(hot) < 0.6 * width + 0.2
    assert widest(hot, beyond=1e-3) > 0.9 * width
    noisy = windows + np.random.default_rng(0).normal(0, 5, windows.shape).astype(np.float32)
    assert widest(noisy, noise_std=5.0, beyond=1e-3) > 0.9 * width


def test_a_fine_pattern_in_a_photograph_rules_a_wide_blur_out(photo):
    pixels = photo[..., 0].round().astype(np.uint8)
    pixels[60:140, 60:140] = np.where(np.indices((80, 80)).sum(0) % 2, 40, 220)
    estimate = isr_jax.estimate_degradation(pixels)
    assert estimate.blur is None
    assert "too steep" in estimate.remarks[0]


def test_a_frame_of_one_colour_tells_nothing(photo):
    sharp = photo.round().astype(np.uint8)
    plain = isr_jax.estimate_degradation(sharp)
    for colour, width in ((0, ((50, 50), (0, 0))), (128, ((40, 0), (60, 9))), (255, ((13, 13), (13, 13)))):
        framed = np.pad(sharp, (*width, (0, 0)), constant_values=colour)
        assert isr_jax.estimate_degradation(framed) == plain


def test_a_frame_that_came_after_the_blur_is_told_with_it(photo):
    soft, bars = blurred(photo, 1.2).round().astype(np.uint8), ((53, 53), (0, 0), (0, 0))
    later = isr_jax.estimate_degradation(np.pad(soft, bars))
    assert later.frame == (53, 53, 0, 0)
    assert replace(later, frame=None) == isr_jax.estimate_degradation(soft)
    assert later.known()["frame"] == (53, 53, 0, 0)
    assert str(later).endswith(", in a frame")
    before = isr_jax.estimate_degradation(blurred(np.pad(photo, bars), 1.2).round().astype(np.uint8))
    assert before.frame is None
    assert before.blur_std == pytest.approx(later.blur_std, abs=0.5)


def test_a_blur_that_the_pixels_beside_a_frame_do_not_share_is_not_told(photo):
    framed = np.pad(blurred(photo, 1.2), ((53, 53), (0, 0), (0, 0))).round().astype(np.uint8)
    mixed = framed.copy()
    mixed[53, ::2] = 250
    for later in (jpeg_bytes(framed, quality=80), mixed):
        estimate = isr_jax.estimate_degradation(later)
        assert estimate.blur is None
        assert estimate.frame is None


def test_patterns_are_drawn_and_not_noise():
    checks = np.where(np.indices((32, 32)).sum(0) % 2, 0, 255).astype(np.uint8)
    estimate = isr_jax.estimate_degradation(checks)
    assert estimate.noise_std <= 0.5
    assert "drawn" in estimate.remarks[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pictures_that_tell_nothing_say_so(channels, dtype):
    rng = np.random.default_rng(0)
    flat = np.full((200, 300, channels), 77, dtype)
    steps = np.full((200, 300, channels), 65535 if dtype == np.uint16 else 255, dtype)
    steps[40:90, 30:200] = 0
    cases = ((flat, "flat"), (flat[:8, :8], "too small"), (flat[:1, :1], "too small"), (steps, "drawn"))
    for pixels, why in cases:
        estimate = isr_jax.estimate_degradation(pixels)
        assert estimate.blur is None
        assert estimate.confidence == 0
        assert estimate.remarks
        assert why in estimate.remarks[0]
        assert "cannot tell" in str(estimate)
    noise = rng.integers(0, 256, (90, 70, channels)).astype(dtype)
    wide, high = (rng.integers(0, 256, shape).astype(dtype) for shape in ((16, 4000, channels), (3000, 17, channels)))
    for pixels in (noise, wide, high, flat[..., 0]):
        assert 0 <= isr_jax.estimate_degradation(pixels).confidence <= 1


def test_what_is_no_picture_and_what_cannot_be_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8nothing")
    for source in (tmp_path / "a.jpg", tmp_path / "none.png", str(tmp_path)):
        with pytest.raises(UserError):
            isr_jax.estimate_degradation(source)
    for source in (None, np.zeros((3, 3, 2)), np.zeros((2, 0, 3)), ["abc"]):
        with pytest.raises(TypeError):
            isr_jax.estimate_degradation(source)
    with pytest.raises(TypeError, match=r"not int32 of shape \(40, 40\)$"):
        isr_jax.estimate_degradation(np.zeros((40, 40), np.int32))
    with pytest.raises(ValueError, match="NaN or infinite"):
        isr_jax.estimate_degradation(np.full((40, 40), np.nan))
    with pytest.raises(ValueError, match="above 0.5; they are on 0..255"):
        isr_jax.estimate_degradation(np.full((40, 40), 0.5))
    flat = isr_jax.estimate_degradation(np.zeros((40, 40)))
    for scale in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="scale"):
            isr_jax.estimate_degradation(np.zeros((40, 40)), scale=scale)
        with pytest.raises(ConfigError, match="scale"):
            flat.at_scale(scale)
    for file in (tmp_path / "none.jpg", tmp_path, b"\xff\xd8nothing"):
        with pytest.raises(UserError, match="cannot be read"):
            isr_jax.estimate_degradation(np.zeros((40, 40)), file=file)


def test_twelve_megapixels_take_little_time_and_no_jax():
    code = """
import sys, time, numpy as np, isr_jax
picture = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3)).astype(np.uint8)
isr_jax.estimate_degradation(picture[:64, :64])
start = time.process_time()
isr_jax.estimate_degradation(picture)
print(time.process_time() - start, "jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, jax = done.stdout.split()
    assert jax == "False"
    assert float(seconds) < 1.5  # about 0.15 on one core; machines of tests are slow


def test_real_pictures_have_an_estimate(shared):
    start = time.monotonic()
    for path in sorted((shared / "data" / "real").iterdir()):
        estimate = isr_jax.estimate_degradation(path)
        assert str(estimate)
        assert (estimate.jpeg is not None and estimate.jpeg.from_file) == (read_image(path).format == "JPEG")
    assert time.monotonic() - start < 60


def test_a_model_is_told_a_blur_the_narrower_the_less_sure_it_is():
    believed = isr_jax.Estimate(
        scale=4, blur=(2.0, 1.0, 30.0), blur_std=1.6, noise_std=0.0, jpeg=None, enlarged=None, confidence=0.9
    )
    told = [replace(believed, confidence=confidence).told_blur for confidence in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert told[:2] == [None, None]
    assert 0 < told[2][0] < told[3][0] < told[4][0] == 2
    assert all(major == pytest.approx(2 * minor) and angle == 30 for major, minor, angle in told[2:])
    assert replace(believed, confidence=0.2).known()["physics"] == isr_jax.Bicubic(4)
    # Right within an eighth of the picture's pixels, 0.5 HR pixels, as often as an error of that mean size is smaller.
    error = replace(believed, confidence=0.8).blur_error
    assert np.mean(np.random.default_rng(0).exponential(error, 100_000) < 0.5) == pytest.approx(0.8, abs=0.01)
    assert replace(believed, confidence=0.8).at_scale(2).blur_error == pytest.approx(error / 2)
    assert not replace(believed, confidence=0.5).clean
    assert replace(believed, confidence=0.25).clean  # what would be told of it is next to nothing
    hard = FoundJpeg(quality=30, tables=((1,) * 64,), sampling=None)
    assert replace(believed, jpeg=hard).told_blur is None


def test_the_physics_is_matlabs_reduction_of_the_blurred_picture(photo):
    flat = isr_jax.estimate_degradation(np.zeros((40, 40), np.uint8), scale=2)
    assert flat.physics() == isr_jax.Bicubic(2)
    estimate = isr_jax.estimate_degradation(blurred(photo, 0.6))
    physics = estimate.physics()
    assert physics.scale == 4
    hr = np.zeros((1, 128, 128, 1), np.float32)
    hr[0, 64, 64] = 1
    seen = np.asarray(physics.inner.apply(jnp.asarray(hr)))[0, :, :, 0]
    along = np.arange(128) - 64
    assert np.sqrt((seen * along[:, None] ** 2).sum()) == pytest.approx(estimate.blur_std, rel=0.1)
    assert estimate.known()["noise_std"] == estimate.noise_std
    assert estimate.known()["physics"].inner is not None
    hard = isr_jax.estimate_degradation(jpeg_bytes(photo.round().clip(0, 255).astype(np.uint8), quality=20))
    assert (hard.blur is None) or hard.known()["physics"] == isr_jax.Bicubic(4)
    with pytest.raises(ConfigError, match="whole"):
        isr_jax.estimate_degradation(photo, scale=1.5).physics()
