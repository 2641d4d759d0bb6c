import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isr_jax.config import DataConfig
from isr_jax.training.data import Memory, draw_batch, validation_pairs
from isr_jax.training.datasets import stream_batches, sub_images
from isr_jax.training.memory import load_memory
from tests.test_datasets import write_photos

SCALE = 2


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    photos = write_photos(folder / "photos", [(40, 40), (40, 60), (50, 44), (40, 40), (44, 40)])
    config = DataConfig(
        train=(str(photos),), cache_dir=str(folder / "cache"), tile_size=60, patch_size=6, batch_size=4, candidates=2
    )
    return config, sub_images(config, scale=SCALE, channels=3)


@pytest.fixture(scope="module")
def memory(built):
    return load_memory(built[0], scale=SCALE, channels=3).memory


def stream(built, first_step, count, *, shard=0, shards=1, seed=3, **changes):
    config, images = built
    config = dataclasses.replace(config, **changes)
    batches = stream_batches(images, config, scale=SCALE, seed=seed, first_step=first_step, shard=shard, shards=shards)
    return list(itertools.islice(batches, count))


def test_a_stream_resumed_at_any_step_is_the_same_stream(built):
    whole = stream(built, 0, 6)
    for first in (1, 3, 5):
        for a, b in zip(stream(built, first, 6 - first), whole[first:], strict=True):
            np.testing.assert_array_equal(a["lr"], b["lr"])
            np.testing.assert_array_equal(a["hr"], b["hr"])
    assert not np.array_equal(stream(built, 0, 1, seed=4)[0]["lr"], whole[0]["lr"])


def test_processes_share_each_batch_of_a_stream(built):
    whole = stream(built, 2, 2)
    parts = [stream(built, 2, 2, shard=p, shards=2) for p in range(2)]
    for step in range(2):
        np.testing.assert_array_equal(np.concatenate([p[step]["hr"] for p in parts]), whole[step]["hr"])


def test_an_epoch_of_a_stream_is_a_permutation(built):
    config, images = built
    marked = [(i, e) for i, e in enumerate(images.dataset.as_numpy_iterator())]
    seen = []
    for batch in stream(built, 0, 2, batch_size=5, augment=False):
        epoch = []
        for hr in batch["hr"]:
            size = config.patch_size * SCALE
            windows = {i: np.lib.stride_tricks.sliding_window_view(e["hr"], (size, size, 3)) for i, e in marked}
            epoch.append(next(i for i, w in windows.items() if (w[:, :, 0] == hr).all((-1, -2, -3)).any()))
        assert sorted(epoch) == list(range(5))
        seen.append(epoch)
    assert seen[0] != seen[1]


@functools.cache
def jitted_draw(shards, config):
    return jax.jit(functools.partial(draw_batch, shards=shards, seed=3, config=config))


def draws(memory, step, shard, shards, config):
    return jitted_draw(shards, config)(memory, jnp.int32(step), jnp.int32(shard))


def test_draws_from_memory_do_not_depend_on_the_number_of_devices(built, memory):
    config, _ = built
    whole = draws(memory, 7, 0, 1, config)
    parts = [draws(memory, 7, i, 4, config) for i in range(4)]
    for name in whole:
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), whole[name])
    assert not np.array_equal(draws(memory, 8, 0, 1, config)["lr"], whole["lr"])


@pytest.mark.parametrize("placement", ["memory", "stream"])
def test_lr_and_hr_patches_stay_aligned(built, memory, placement):
    # An HR picture that repeats each LR pixel: its patches say where the LR patch should lie, however turned.
    config, images = built
    hr = np.repeat(np.repeat(memory.lr, SCALE, 1), SCALE, 2)
    if placement == "memory":
        batches = [draws(memory._replace(hr=hr), step, 0, 1, config) for step in range(4)]
    else:
        import tensorflow as tf

        def elements():
            for lr, big, (h, w) in zip(memory.lr, hr, memory.size, strict=True):
                yield {"lr": lr[:h, :w], "hr": big[: h * SCALE, : w * SCALE]}

        spec = tf.TensorSpec((None, None, 3), tf.uint8)
        repeated = tf.data.Dataset.from_generator(elements, output_signature={"lr": spec, "hr": spec})
        batches = stream((config, images._replace(dataset=repeated)), 0, 4)
    for batch in batches:
        np.testing.assert_array_equal(np.repeat(np.repeat(batch["lr"], SCALE, 1), SCALE, 2), batch["hr"])


def test_an_epoch_in_memory_is_a_permutation_within_the_valid_part():
    count, config = 6, DataConfig(batch_size=3, patch_size=4, placement="memory", augment=False)
    lr = np.zeros((count, 9, 9, 1), np.uint8)
    size = np.array([[4 + i % 5, 9 - i % 5] for i in range(count)], np.int32)
    for i, (h, w) in enumerate(size):
        lr[i, :h, :w] = i + 1
    memory = Memory(lr, lr.repeat(2, 1).repeat(2, 2), size, np.linspace(1 / count, 1, count, dtype=np.float32))
    for epoch in range(3):
        patches = np.concatenate([draws(memory, 2 * epoch + s, 0, 1, config)["lr"] for s in range(2)])
        assert (patches == patches[:, :1, :1]).all()  # never a pixel of the padding
        assert sorted(patches[:, 0, 0, 0]) == [1, 2, 3, 4, 5, 6]


def test_texture_and_candidates_are_preferred():
    rng = np.random.default_rng(0)
    lr = np.full((2, 32, 32, 1), 100, np.uint8)
    lr[1] = rng.integers(0, 256, lr[1].shape)
    memory = Memory(lr, lr.repeat(2, 1).repeat(2, 2), np.full((2, 2), 32, np.int32), np.array([0.1, 1.0], np.float32))
    config = DataConfig(batch_size=64, patch_size=4, placement="memory", sampling="texture")
    drawn = np.concatenate([draws(memory, s, 0, 1, config)["lr"] for s in range(10)])
    assert np.mean(drawn.std((1, 2, 3)) > 0) == pytest.approx(0.9, abs=0.04)
    half = lr[1:].copy()
    half[:, :, :16] = 100
    memory = Memory(half, half.repeat(2, 1).repeat(2, 2), np.full((1, 2), 32, np.int32), np.ones(1, np.float32))
    flat = {
        n: np.mean(draws(memory, 0, 0, 1, dataclasses.replace(config, candidates=n))["lr"].std((1, 2, 3)) == 0)
        for n in (1, 4)
    }
    assert flat[4] < flat[1] / 2


def test_pictures_are_weighted_by_area_and_texture(memory):
    assert memory.cumulative[-1] == pytest.approx(1)
    assert (np.diff(np.concatenate([[0], memory.cumulative])) > 0).all()


def test_pictures_of_two_sources_are_weighted_each_for_itself(tmp_path):
    # Each source has one picture, both of the same size: neighbours that share number and area.
    for seed, name in enumerate(("a", "b")):
        write_photos(tmp_path / name, [(40, 80)], seed=seed)

    def weights(*names):
        folders = tuple(str(tmp_path / name) for name in names)
        config = DataConfig(train=folders, cache_dir=str(tmp_path / "cache"), tile_size=40, patch_size=6)
        return np.diff(load_memory(config, scale=SCALE, channels=3).memory.cumulative, prepend=0)

    a, b, both = weights("a"), weights("b"), weights("a", "b")
    np.testing.assert_allclose(both[:2] / both[:2].sum(), a, rtol=1e-5)
    np.testing.assert_allclose(both[2:] / both[2:].sum(), b, rtol=1e-5)
    # With a third picture in between, nothing could be merged: the weights of the others stay in proportion.
    write_photos(tmp_path / "c", [(40, 40)], seed=5)
    apart = weights("a", "c", "b")
    np.testing.assert_allclose(both[2:].sum() / both[:2].sum(), apart[3:].sum() / apart[:2].sum(), rtol=1e-5)


def test_validation_pairs_make_the_lr_that_is_absent(tmp_path):
    write_photos(tmp_path / "set" / "HR", [(41, 40)])
    (pair,) = validation_pairs(str(tmp_path / "set"), 4, 3)
    assert pair.hr.shape == (40, 40, 3)
    assert pair.lr.shape == (10, 10, 3)
