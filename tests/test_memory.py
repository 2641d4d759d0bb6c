import dataclasses
import errno
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import ExifTags, Image

from isr_jax.config import DataConfig, UserError
from isr_jax.pictures.images import write_image
from isr_jax.training.data import Memory
from isr_jax.training.datasets import sub_images
from isr_jax.training.memory import load_memory
from tests.blocked import ROOT, run_command_blocked
from tests.test_datasets import write_photos

TENSORFLOW = ("tensorflow", "tensorflow_datasets", "importlib_resources")
SCALE = 2


def write_all_kinds(folder):
    """Pictures of many sizes and kinds, two that cannot be used, and a folder of pairs; returns the sources."""
    rng = np.random.default_rng(3)
    photos = write_photos(folder / "photos", [(40, 61), (100, 70), (33, 34)])
    grey = rng.integers(0, 256, (50, 40), np.uint8)
    Image.fromarray(grey).save(photos / "grey.png")
    Image.fromarray(rng.integers(0, 256, (40, 45, 4), np.uint8)).save(photos / "alpha.png")
    write_image(photos / "deep.png", rng.integers(0, 65536, (44, 40, 3)).astype(np.uint16))
    write_image(photos / "deep.tif", rng.integers(0, 65536, (40, 42, 1)).astype(np.uint16))
    (photos / "deep.tif").rename(photos / "deep_grey.tif")
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    colour = Image.fromarray(rng.integers(0, 256, (36, 88, 3), np.uint8))
    for name in ("turned.jpg", "turned_png.png", "turned_tif.tif", "turned_webp.webp"):
        colour.save(photos / name, exif=turned)
    colour.convert("CMYK").save(photos / "cmyk.jpg")
    (photos / "broken.jpg").write_bytes((photos / "turned.jpg").read_bytes()[:700])  # whose head is whole
    Image.new("RGB", (120, 9)).save(photos / "flat.png")
    pairs = folder / "pairs"
    write_photos(pairs / "HR", [(64, 64), (66, 48)], seed=4)
    write_photos(pairs / "LRx2", [(32, 32), (33, 24)], seed=5)
    return str(photos), str(pairs)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_all_kinds(tmp_path_factory.mktemp("kinds"))


def config_of(tmp_path, *train, **changes):
    changes = {"tile_size": 48, "patch_size": 8, "placement": "memory", **changes}
    return DataConfig(train=train, cache_dir=str(tmp_path / "cache"), **changes)


def memory_by_tensorflow(config, channels):
    """The same arrays from the elements of the TFDS builders, written down plainly."""
    elements, sources = [], []
    for number, name in enumerate(config.train):
        part = sub_images(dataclasses.replace(config, train=(name,)), scale=SCALE, channels=channels)
        elements += list(part.dataset.as_numpy_iterator())
        sources += [number] * part.size
    size = np.array([e["lr"].shape[:2] for e in elements], np.int32)
    height, width = size.max(axis=0)
    lr = np.zeros((len(elements), height, width, channels), np.uint8)
    hr = np.zeros((len(elements), height * SCALE, width * SCALE, channels), np.uint8)
    texture = []
    for i, (e, (h, w)) in enumerate(zip(elements, size, strict=True)):
        lr[i, :h, :w], hr[i, : h * SCALE, : w * SCALE] = e["lr"], e["hr"]
        luma = e["lr"].astype(np.float32).mean(axis=-1)
        mean = float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean())
        texture.append(mean * e["lr"].size)
    _, pictures = np.unique(
        [(s, e["picture"]) for s, e in zip(sources, elements, strict=True)], axis=0, return_inverse=True
    )
    total, pixels = np.bincount(pictures, texture), np.bincount(pictures, [e["lr"].size for e in elements])
    areas = np.array([e["picture_area"] for e in elements], np.float64)
    weights = np.sqrt(areas) * total[pictures] / pixels[pictures] * texture / np.maximum(total[pictures], 1e-9) + 1e-9
    return Memory(lr, hr, size, np.cumsum(weights / weights.sum()).astype(np.float32))


def assert_same_arrays(a, b):
    for name in Memory._fields:
        x, y = getattr(a, name), getattr(b, name)
        assert (x.dtype, x.shape) == (y.dtype, y.shape), name
        assert x.tobytes() == y.tobytes(), name


@pytest.mark.parametrize("channels", [1, 3])
def test_memory_without_tensorflow_is_the_same_to_the_last_bit(tmp_path, sources, channels, capfd):
    config = config_of(tmp_path, *sources)
    loaded = load_memory(config, scale=SCALE, channels=channels)
    said = capfd.readouterr().err
    assert "broken.jpg is damaged" in said
    assert "flat.png is 120x9, too small" in said
    assert "2 pictures skipped, 12 used" in said
    assert_same_arrays(loaded.memory, memory_by_tensorflow(config, channels))
    streamed = sub_images(config, scale=SCALE, channels=channels)
    assert (loaded.fingerprint, loaded.size) == (streamed.fingerprint, streamed.size)
    with pytest.raises(UserError, match=r"broken\.jpg|flat\.png"):
        load_memory(dataclasses.replace(config, strict=True), scale=SCALE, channels=channels)


def test_a_picture_that_is_skipped_leaves_no_trace_in_the_arrays(tmp_path):
    photos = write_photos(tmp_path / "photos", [(30, 30), (32, 30)])
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))
    large.save(photos / "large.jpg")
    (photos / "large.jpg").write_bytes((photos / "large.jpg").read_bytes()[:900])
    loaded = load_memory(config_of(tmp_path, str(photos)), scale=SCALE, channels=3)
    assert loaded.memory.hr.shape == (2, 32, 30, 3)


def test_the_cache_is_read_and_a_damaged_one_made_again(tmp_path, sources, capfd):
    config = config_of(tmp_path, sources[1])
    first = load_memory(config, scale=SCALE, channels=3)
    (entry,) = (tmp_path / "cache").iterdir()
    assert "cutting 2 pictures" in capfd.readouterr().err
    again = load_memory(config, scale=SCALE, channels=3)
    assert capfd.readouterr().err == ""
    assert_same_arrays(first.memory, again.memory)
    assert not again.memory.hr.flags.writeable
    whole = (entry / "hr.npy").read_bytes()
    for damage in (whole[:-1000], b"", None):
        (entry / "hr.npy").unlink()
        if damage is not None:
            (entry / "hr.npy").write_bytes(damage)
        assert_same_arrays(first.memory, load_memory(config, scale=SCALE, channels=3).memory)
        assert "cutting 2 pictures" in capfd.readouterr().err
        assert (entry / "hr.npy").read_bytes() == whole
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [entry.name]


@pytest.mark.parametrize("kind", ["a file in its place", "full"])
def test_without_a_cache_training_goes_on(tmp_path, sources, kind):
    # A limit on the size of files stands for the full disk: both fail in the middle of a write.
    config = config_of(tmp_path, sources[1])
    if kind != "full":
        (tmp_path / "cache").write_text("")
    program = (
        "import sys\n"
        "from isr_jax.config import DataConfig\n"
        "from isr_jax.training.memory import load_memory\n"
        "data = DataConfig(train=(sys.argv[1],), cache_dir=sys.argv[2], tile_size=48, patch_size=8)\n"
        "print(load_memory(data, scale=2, channels=3).memory.hr.sum())"
    )
    limit = "ulimit -f 4; " if kind == "full" else ""  # KiB
    command = ["bash", "-c", f'{limit}exec "$@"', "bash", sys.executable, "-c", program, sources[1], config.cache_dir]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot write the cache" in done.stderr
    assert done.stderr.count("\n") == 2
    if kind == "full":
        assert list((tmp_path / "cache").iterdir()) == []
        assert os.strerror(errno.EFBIG) in done.stderr or "written" in done.stderr
    else:
        (tmp_path / "cache").unlink()
    assert int(done.stdout) == load_memory(config, scale=SCALE, channels=3).memory.hr.sum()


def test_a_killed_build_is_never_taken_for_a_whole_one(tmp_path, sources):
    config = config_of(tmp_path, sources[1])
    expected = load_memory(config, scale=SCALE, channels=3)
    shutil.rmtree(tmp_path / "cache")
    # Stopped at the writing of its third array, and killed there.
    program = (
        "import sys, time\n"
        "import numpy as np\n"
        "from isr_jax.config import DataConfig\n"
        "from isr_jax.training.memory import load_memory\n"
        "save, calls = np.save, []\n"
        "def slow(file, array):\n"
        "    calls.append(array)\n"
        "    if len(calls) == 3:\n"
        "        time.sleep(100)\n"
        "    save(file, array)\n"
        "np.save = slow\n"
        "data = DataConfig(train=(sys.argv[1],), cache_dir=sys.argv[2], tile_size=48, patch_size=8)\n"
        "load_memory(data, scale=2, channels=3)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, sources[1], config.cache_dir]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "cache").glob(".*/size.npy")) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert_same_arrays(load_memory(config, scale=SCALE, channels=3).memory, expected.memory)


TRAINING = """
from isr_jax.config import *

CONFIG = TrainConfig(
    model=ModelConfig(scale=2, num_stages=1, physics="bicubic", prior=ERDConfig(features=2, num_blocks=1,
        feedback_steps=0, kernel_size=3, resolution="lr", border="zero", weight_norm=False)),
    data=DataConfig(train=({train!r},), cache_dir={cache!r}, tile_size=48, patch_size=6, batch_size=2,
        placement="memory"),
    eval=EvalConfig(log_every=1),
    steps=5,
)
"""


@pytest.mark.slow
def test_training_from_memory_needs_no_tensorflow_and_resumes(tmp_path):
    photos = write_photos(tmp_path / "photos", [(48, 48), (60, 50)])
    config, run = tmp_path / "config.py", tmp_path / "run"
    config.write_text(TRAINING.format(train=str(photos), cache=str(tmp_path / "cache")))
    done = run_command_blocked("train", TENSORFLOW, config, "--workdir", run, "--max-minutes", "0.0001")
    assert done.returncode == 75, done.stderr[-2000:]  # after the first stretch, which is one step
    done = run_command_blocked("train", TENSORFLOW, config, "--workdir", run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "resumed at step 1 of 5" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--data.placement", "stream"], 'data.placement="stream" needs tensorflow'),
        (["--data.train", "div2k/bicubic_x2"], "data.train=div2k/bicubic_x2 needs tensorflow"),
    ],
)
def test_what_needs_tensorflow_says_so_in_one_line(tmp_path, arguments, remedy):
    photos = write_photos(tmp_path / "photos", [(48, 48)])
    config = tmp_path / "config.py"
    config.write_text(TRAINING.format(train=str(photos), cache=str(tmp_path / "cache")))
    done = run_command_blocked("train", TENSORFLOW, config, "--workdir", tmp_path / "run", *arguments)
    assert done.returncode == 1, done.stderr[-2000:]
    (line,) = done.stderr.strip().splitlines()
    assert remedy in line
    assert "pip install 'isr_jax[train]'" in line
