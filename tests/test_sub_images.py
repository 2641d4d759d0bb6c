import os
import threading
import time

import numpy as np
import pytest

from isr_jax.config import DataConfig
from isr_jax.training.data import validation_pairs
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
