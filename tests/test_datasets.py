import os

import numpy as np
import pytest
import tensorflow  # noqa: F401  # not below isr_jax, see conftest.py
from PIL import Image

from isr_jax.config import ConfigError, DataConfig, DegradationConfig, UserError
from isr_jax.physics.resize import imresize
from isr_jax.training.datasets import stream_batches, sub_images
from isr_jax.training.memory import load_memory


def write_photos(folder, sizes, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i, (height, width) in enumerate(sizes):
        pixels = imresize(rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3)).astype(np.uint8), 5.0)
        Image.fromarray(pixels[:height, :width]).save(folder / f"{i}.png")
    return folder


def test_sub_images_are_aligned_and_cached_by_content(tmp_path):
    photos = write_photos(tmp_path / "photos", [(65, 97), (40, 48)])
    config = DataConfig(train=(str(photos),), cache_dir=str(tmp_path / "cache"), tile_size=49, patch_size=8)
    built = sub_images(config, scale=4, channels=3)
    elements = list(built.dataset.as_numpy_iterator())
    assert built.size == len(elements) == 2 * 2 + 1
    whole = np.asarray(Image.open(photos / "0.png"))[:64, :96]
    lr = imresize(whole, 1 / 4)
    np.testing.assert_array_equal(elements[0]["hr"], whole[:48, :48])
    np.testing.assert_array_equal(elements[3]["hr"], whole[-48:, -48:])
    np.testing.assert_array_equal(elements[3]["lr"], lr[-12:, -12:])  # made from the whole picture, not from the tile
    assert [int(e["picture"]) for e in elements] == [0, 0, 0, 0, 1]

    assert sub_images(config, scale=4, channels=3).fingerprint == built.fingerprint
    assert len(list((tmp_path / "cache").iterdir())) == 1
    Image.open(photos / "0.png").rotate(180).save(photos / "0.png")
    assert sub_images(config, scale=4, channels=3).fingerprint != built.fingerprint


def test_damaged_sub_images_are_cut_anew_or_named(tmp_path, capfd):
    photos = write_photos(tmp_path / "photos", [(64, 64)])
    config = DataConfig(train=(str(photos),), cache_dir=str(tmp_path / "cache"), patch_size=8, batch_size=1)
    built = sub_images(config, scale=2, channels=3)
    [place] = built.places
    [file] = place.rglob("*.tfrecord*")
    whole = file.read_bytes()

    def cut(length):
        file.write_bytes(whole[:length])

    damages = [lambda: cut(1000), file.unlink, next(place.rglob("dataset_info.json")).unlink]
    for damage in damages:
        damage()
        capfd.readouterr()
        assert sub_images(config, scale=2, channels=3).size == built.size
        assert f"{tmp_path / 'cache'}" in (said := capfd.readouterr().err)
        assert "is damaged: it is made anew" in said
        assert file.read_bytes() == whole
    file.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    drawn = stream_batches(
        sub_images(config, scale=2, channels=3), config, scale=2, seed=0, first_step=0, shard=0, shards=1
    )
    with pytest.raises(UserError, match=rf"{place}: damaged; remove it"):
        next(drawn)


def test_the_fingerprint_changes_with_the_measured_kernels(tmp_path):
    photos, file = write_photos(tmp_path / "photos", [(64, 64)]), tmp_path / "k.npy"
    degradation = DegradationConfig(measured=1.0, kernels=str(file), kernel_size=3)
    config = DataConfig(train=(str(photos),), cache_dir=str(tmp_path / "cache"), patch_size=8, degradation=degradation)
    found = []
    for k in (np.ones((3, 3)), np.ones((3, 3)), np.eye(3)):
        np.save(file, k)
        found.append(sub_images(config, scale=2, channels=3).fingerprint)
    assert found[0] == found[1] != found[2]
    file.unlink()
    with pytest.raises(ConfigError, match=r"data\.degradation\.kernels, .*k\.npy: cannot be read"):
        sub_images(config, scale=2, channels=3)


def test_pairs_are_used_as_they_are_and_must_match(tmp_path):
    folder = tmp_path / "set"
    write_photos(folder / "HR", [(64, 64), (66, 64)])
    write_photos(folder / "LRx2", [(32, 32), (33, 32)], seed=1)
    config = DataConfig(train=(str(folder),), cache_dir=str(tmp_path / "cache"), tile_size=64, patch_size=8)
    first = next(sub_images(config, scale=2, channels=3).dataset.as_numpy_iterator())
    np.testing.assert_array_equal(first["lr"], np.asarray(Image.open(folder / "LRx2" / "0.png")))
    (folder / "LRx2" / "1.png").unlink()
    with pytest.raises(UserError, match=r"LRx2 lacks 1, which .*HR has"):
        sub_images(config, scale=2, channels=3)


def test_broken_pictures_are_skipped_with_a_count_or_refused(tmp_path, capfd):
    photos = write_photos(tmp_path / "photos", [(40, 40), (40, 40)])
    (photos / "broken.png").write_bytes((photos / "0.png").read_bytes()[:200])
    Image.new("RGB", (8, 8)).save(photos / "small.png")
    config = {"train": (str(photos),), "cache_dir": str(tmp_path / "cache"), "tile_size": 40, "patch_size": 8}
    assert sub_images(DataConfig(**config), scale=4, channels=3).size == 2
    said = capfd.readouterr().err
    assert "broken.png" in said
    assert "small.png" in said
    assert "2 pictures skipped, 2 used" in said
    with pytest.raises(UserError, match=r"broken\.png"):
        sub_images(DataConfig(**config, strict=True), scale=4, channels=3)
    assert not [p for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")]  # nothing half-built is left


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_a_missing_or_empty_folder_is_named(tmp_path, make):
    make(tmp_path / "none")
    with pytest.raises(UserError, match="none"):
        sub_images(DataConfig(train=(str(tmp_path / "none"),), cache_dir=str(tmp_path)), scale=2, channels=3)


def test_grey_models_get_grey_pictures(tmp_path):
    photos = write_photos(tmp_path / "photos", [(40, 40)])
    config = DataConfig(train=(str(photos),), cache_dir=str(tmp_path / "cache"), tile_size=40, patch_size=8)
    element = next(sub_images(config, scale=2, channels=1).dataset.as_numpy_iterator())
    assert element["hr"].shape == (40, 40, 1)
    assert element["lr"].shape == (20, 20, 1)


def test_div2k_by_its_name(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    # A small data set in the format of the real builder, as it would lie on disk after the download.
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    builder = tfds.builder("div2k/bicubic_x2", data_dir=str(tmp_path / "tfds"))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (24, 36, 3)).astype(np.uint8) for _ in range(3)]
    os.makedirs(builder.data_dir)
    writer = tfds.core.SequentialWriter(builder.info, max_examples_per_shard=2)
    writer.initialize_splits(["train"])
    writer.add_examples({"train": [{"hr": p, "lr": imresize(p, 1 / 2)} for p in pictures]})
    writer.close_splits(["train"])

    config = {"cache_dir": str(tmp_path / "cache"), "tile_size": 24, "patch_size": 8}
    built = sub_images(DataConfig(train=("div2k/bicubic_x2",), **config), scale=2, channels=3)
    elements = list(built.dataset.as_numpy_iterator())
    assert len(elements) == 6
    np.testing.assert_array_equal(elements[1]["hr"], pictures[0][:, 12:])
    np.testing.assert_array_equal(elements[1]["lr"], imresize(pictures[0], 1 / 2)[:, 6:])
    memory = load_memory(DataConfig(train=("div2k/bicubic_x2",), **config), scale=2, channels=3)
    assert (memory.size, memory.fingerprint) == (built.size, built.fingerprint)
    np.testing.assert_array_equal(memory.memory.hr, [e["hr"] for e in elements])
    np.testing.assert_array_equal(memory.memory.lr, [e["lr"] for e in elements])
    with pytest.raises(UserError, match="at scale 4 needs"):
        sub_images(DataConfig(train=("div2k/bicubic_x2",), strict=True, **config), scale=4, channels=3)
    with pytest.raises(UserError, match="div2k/none"):
        sub_images(DataConfig(train=("div2k/none",), **config), scale=2, channels=3)
