"""isr_jax.pictures.pairs: every layout is found, read alike for scores and training, and every fault is one line."""

import numpy as np
import pytest
from PIL import Image

from isr_jax.config import ConfigError, UserError
from isr_jax.physics.resize import crop_to_multiple, imresize
from isr_jax.pictures.images import Picture, write_image
from isr_jax.pictures.pairs import list_pairs, match_pair, read_dataset, read_pixels

HR = np.random.default_rng(0).integers(0, 256, (27, 38, 3)).astype(np.uint8)
DARK = np.zeros((6, 9, 3), np.uint8)
"""An LR picture that nobody would make of HR: whoever returns it has read it."""


def write(folder, *names: str) -> None:
    """Writes HR pictures, and LR pictures where the folder's name says so."""
    for name in names:
        reduced = "LR" in name.rpartition("/")[0]
        write_image(folder / name, DARK if reduced else HR)


@pytest.mark.parametrize(
    ("names", "given", "called", "stems"),
    [
        (("HR/a.png", "LRx4/a.png"), "", "set", "a"),
        (("HR/a.png", "LRx4/a.bmp", "LRx2/b.png"), "", "set", "a"),
        (("HR/a.png", "LRx4/a.png"), "HR", "set", "a"),
        (("HR/0001.png", "LRx4/0001x4.png"), "", "set", "0001"),
        (("HR/0001.png", "LR_bicubic/X4/0001x4.png"), "", "set", "0001"),
        (("a.png", "LRx4/a.png"), "", "set", "a"),
        (("DIV2K_HR/0001.png", "DIV2K_LR_bicubic/X4/0001x4.png", "DIV2K_LR_bicubic/X2/1.png"), "", "set", "0001"),
        (("DIV2K_HR/0001.png", "DIV2K_LR_bicubic/X4/0001x4.png", "other_HR/1.png"), "DIV2K_HR", "DIV2K_HR", "0001"),
        (("HR/0001.png", "HR/0001x4.png", "LRx4/0001.png", "LRx4/0001x4.png"), "", "set", "0001 0001x4"),
    ],
)
def test_lr_is_used_as_it_is_in_every_layout(tmp_path, monkeypatch, names, given, called, stems):
    write(tmp_path / "set", *names)
    dataset = read_dataset(tmp_path / "set" / given, 4)
    assert (dataset.name, dataset.lr_source, dataset.scale) == (called, "files", 4)
    for pair in dataset.pairs:
        np.testing.assert_array_equal(pair.hr, HR[:24, :36])
        np.testing.assert_array_equal(pair.lr, DARK)
    assert [pair.name for pair in dataset.pairs] == stems.split()
    monkeypatch.chdir(tmp_path / "set" / given)  # and from inside, where no name is given
    assert read_dataset(type(tmp_path)("."), 4).name == called


@pytest.mark.parametrize("names", [("a.png", "b.jpg"), ("HR/a.png", "HR/b.jpg"), ("DIV2K_HR/a.png", "DIV2K_HR/b.jpg")])
def test_lr_is_made_where_there_is_none(tmp_path, names):
    write(tmp_path, *names)
    dataset = read_dataset(tmp_path, 4)
    assert dataset.lr_source == "imresize"
    assert [pair.name for pair in dataset.pairs] == ["a", "b"]
    np.testing.assert_array_equal(dataset.pairs[0].lr, imresize(crop_to_multiple(HR, 4), 1 / 4))


def test_the_hash_tells_pictures_apart(tmp_path):
    write(tmp_path / "plain", "a.png")
    write(tmp_path / "pairs", "HR/a.png")
    made = read_dataset(tmp_path / "plain", 4)
    assert made.sha256 == read_dataset(tmp_path / "pairs", 4).sha256
    write(tmp_path / "pairs", "LRx4/a.png")
    assert made.sha256 != read_dataset(tmp_path / "pairs", 4).sha256


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ((), UserError, "has no pictures: put"),
        (("HR/a.png", "LRx4/b.png"), UserError, r"LRx4 lacks a, which .*HR has"),
        (("HR/a.png", "LRx4/a.png", "LRx4/b.png", "LRx4/c.png"), UserError, r"HR lacks b \(and 1 more\), which .*LRx4"),
        (("a.png", "a.jpg"), UserError, "a.jpg and a.png are two pictures of one name"),
        (("HR/a.png", "HR/a.bmp"), UserError, "a.bmp and a.png are two"),
        (("HR/a.png", "LRx4/a.png", "LRx4/a.bmp"), UserError, "a.bmp and a.png are two"),
        (("HR/a.png", "LRx4/a.png", "LRx4/ax4.png"), UserError, "a.png and ax4.png are two"),
        (("a_HR/1.png", "b_HR/1.png"), ConfigError, "more than one set, a_HR and b_HR: name one"),
    ],
)
def test_what_is_not_a_set_of_pairs_is_named(tmp_path, names, error, message):
    write(tmp_path, *names)
    with pytest.raises(error, match=message):
        list_pairs(tmp_path, 4)


def test_a_missing_folder_is_a_wrong_argument(tmp_path):
    with pytest.raises(ConfigError, match="none: no such folder"):
        list_pairs(tmp_path / "none", 4)


def test_a_score_refuses_what_training_converts(tmp_path):
    write_image(tmp_path / "deep.png", HR.astype(np.uint16) * 257)
    write_image(tmp_path / "clear.png", Picture(pixels=HR, alpha=HR[..., 0]))
    write_image(tmp_path / "opaque.png", Picture(pixels=HR, alpha=np.full_like(HR[..., 0], 255)))
    for name, fault in (("deep", "has 16 bits"), ("clear", "is transparent"), ("opaque", None)):
        path = tmp_path / f"{name}.png"
        np.testing.assert_array_equal(read_pixels(path, convert=True), HR)
        if fault:
            with pytest.raises(UserError, match=fault):
                read_pixels(path)
        else:
            np.testing.assert_array_equal(read_pixels(path), HR)


def test_channels_are_those_wanted(tmp_path):
    write_image(tmp_path / "HR" / "a.png", HR)
    write_image(tmp_path / "HR" / "b.png", HR[..., :1])
    write_image(tmp_path / "LRx4" / "a.png", DARK[..., :1])
    write_image(tmp_path / "LRx4" / "b.png", DARK[..., :1])
    for channels, shapes in ((None, [(3, 3), (1, 1)]), (3, [(3, 3), (3, 3)]), (1, [(1, 1), (1, 1)])):
        pairs = read_dataset(tmp_path, 4, channels=channels).pairs
        assert [(pair.hr.shape[2], pair.lr.shape[2]) for pair in pairs] == shapes
    np.testing.assert_array_equal(
        read_pixels(tmp_path / "HR" / "a.png", channels=1)[..., 0], Image.fromarray(HR).convert("L")
    )


def test_sizes_are_checked():
    for least, size in ((1, 3), (9, 11)):
        with pytest.raises(UserError, match=f"a.png is 40x{size}, too small for scale 4: .* (4|12) pixels"):
            match_pair(np.zeros((size, 40, 3), np.uint8), None, 4, least=least, names=("a.png", ""))
    with pytest.raises(UserError, match="b.png is 9x6; its HR picture at scale 4 needs 10x6: make it again"):
        match_pair(np.zeros((24, 40, 3), np.uint8), DARK, 4, least=1, names=("a.png", "b.png"))


def test_pictures_of_another_kind_are_read(tmp_path):
    for suffix in ("png", "webp", "tif", "bmp"):
        options = {"lossless": True} if suffix == "webp" else {}
        Image.fromarray(HR).save(tmp_path / f"a.{suffix}", **options)
        np.testing.assert_array_equal(read_pixels(tmp_path / f"a.{suffix}", channels=3), HR)
