import dataclasses
import os
import threading
import time

import numpy as np
import pytest

from isr_jax.config import DataConfig, ModelConfig, TrainConfig
from isr_jax.pictures.images import write_image
from isr_jax.training.data import validation_pairs
from isr_jax.training.memory import load_memory
from isr_jax.training.packing import write_pack
from isr_jax.training.sub_images import cache_folder, cut, in_threads, open_sources
from tests.test_datasets import write_photos


@pytest.mark.parametrize("length", [7, 48, 49, 95, 96, 97, 200])
def test_cut_covers_the_side_in_multiples_of_the_scale(length):
    length, tile, scale = length // 3 * 3, 48, 3
    covered = np.zeros(length, int)
    for start in cut(length, tile, scale):
        assert start % scale == 0
        covered[start : start + tile] += 1
    assert covered.min() >= 1
    assert covered.max() <= 2 or length < 2 * tile


def test_the_cache_is_in_the_users_cache_folder_unless_named(tmp_path, monkeypatch):
    monkeypatch.delenv("ISR_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(DataConfig()) == tmp_path / "isr_jax"
    monkeypatch.setenv("ISR_JAX_CACHE", str(tmp_path / "own"))
    assert cache_folder(DataConfig()) == tmp_path / "own"
    assert cache_folder(DataConfig(cache_dir=str(tmp_path / "named"))) == tmp_path / "named"


def test_threads_keep_the_order_and_stay_near_the_reader():
    asked, seen = [], threading.Event()

    def items():
        for i in range(500):
            asked.append(i)
            yield i

    def slow(i):
        time.sleep(0.001 * (i % 3))
        return i

    for done, i in enumerate(in_threads(slow, items())):
        assert done == i
        if i == 0:
            assert len(asked) < 400  # never all of a set that is larger than the memory
            seen.set()
    assert seen.is_set()
    assert asked == list(range(500))


def test_a_name_that_is_not_utf8_has_a_fingerprint(tmp_path):
    photos = write_photos(tmp_path / "photos", [(40, 40)])
    try:
        os.rename(photos / "0.png", os.fsencode(photos) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    (source,) = open_sources(DataConfig(train=(str(photos),)), 2)
    write_pack([str(photos)], tmp_path / "train.pack")
    (packed,) = open_sources(DataConfig(train=(str(tmp_path / "train.pack"),)), 2)
    assert source.content == packed.content


def test_what_is_not_read_is_named(tmp_path, capfd):
    photos = write_photos(tmp_path / "photos", [(40, 40)])
    (photos / "b.dng").write_bytes(b"not read")
    line = f"isr-jax: {photos}/b.dng is left out: .dng is not read; convert it to PNG or TIFF\n"
    open_sources(DataConfig(train=(str(photos),)), 2)
    assert capfd.readouterr().err == line
    assert len(validation_pairs(str(photos), 2, 3)) == 1
    assert capfd.readouterr().err == line
    write_pack([str(photos)], tmp_path / "train.pack")
    assert capfd.readouterr().err.count(line) == 1


def test_a_physics_of_ones_own_makes_the_pictures_that_are_not_there(tmp_path, monkeypatch):
    """Told to train for a camera, from HR alone: not on MATLAB's reductions."""
    camera, config = "isr_jax.physics.sampling:BoxAverage", DataConfig(train=(str(tmp_path / "photos"),), patch_size=8)
    config = dataclasses.replace(config, placement="memory", cache_dir=str(tmp_path / "cache"))
    write_photos(tmp_path / "photos", sizes=[(48, 40)])
    [hr] = [pair.hr for pair in validation_pairs(str(tmp_path / "photos"), 2, 3)]
    mean = np.round(hr.reshape(hr.shape[0] // 2, 2, hr.shape[1] // 2, 2, 3).mean((1, 3)))
    kept = {name: load_memory(config, scale=2, channels=3, camera=name) for name in ("", camera)}
    assert kept[""].fingerprint != kept[camera].fingerprint
    assert np.abs(kept[camera].memory.lr[0].astype(float) - mean).max() <= 1  # halves
    assert np.abs(kept[""].memory.lr[0].astype(float) - mean).max() > 2  # smooth pictures
    np.testing.assert_array_equal(
        validation_pairs(str(tmp_path / "photos"), 2, 3, camera)[0].lr, kept[camera].memory.lr[0]
    )
    # ... where there are LR pictures, they count
    (tmp_path / "photos" / "HR").mkdir()
    for file in (tmp_path / "photos").glob("*.png"):
        file.rename(tmp_path / "photos" / "HR" / file.name)
        write_image(
            tmp_path / "photos" / "LRx2" / file.name, np.full((hr.shape[0] // 2, hr.shape[1] // 2, 3), 9, np.uint8)
        )
    assert (load_memory(config, scale=2, channels=3, camera=camera).memory.lr == 9).all()
    model = ModelConfig(scale=2, physics=camera)
    assert TrainConfig(model=model, data=config, steps=1).camera == camera
    assert TrainConfig(model=ModelConfig(scale=2, physics="box"), data=config, steps=1).camera == ""
