"""Parts of one's own, in a package of their own (tests/plugins), installed and named: nothing of ours is edited."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from isr_jax.__main__ import dispatch, exit_code
from isr_jax.config import ConfigError, DataConfig, ERDConfig, ModelConfig, PriorConfig, TrainConfig, UserError
from isr_jax.physics.physics import Physics
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.loop import fit
from isr_jax.training.memory import load_memory
from isr_jax.training.own_pictures import OwnPictures
from tests.test_datasets import write_photos

ROOT = Path(__file__).parents[1]

CONFIG = """
from isr_jax.config import *
from own_parts.prior import OneLayerConfig

CONFIG = TrainConfig(
    model=ModelConfig(scale=2, num_stages=1, projection=False, prior=OneLayerConfig(width=5)),
    data=DataConfig(cache_dir="cache", tile_size=48, patch_size=6, batch_size=2, placement="memory"),
    schedule=ScheduleConfig(kind="constant"),
    eval=EvalConfig(log_every=1),
    steps=4,
)
"""
NAMED = {
    "--model.physics": "own_parts.physics:Camera",
    "--loss.kind": "own_parts.loss:Huber",
    "--optimizer.kind": "own_parts.optimizer:lion",
    "--data.train": "own_parts.pictures:Waves",
}


def isr_jax(folder: Path, *words: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a folder."""
    path = [str(folder / "site")] * installed + [str(ROOT)]
    command = [sys.executable, "-m", "isr_jax", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def succeed(folder: Path, *words: str) -> str:
    done = isr_jax(folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the package is installed, and a run was trained with all its parts."""
    folder = tmp_path_factory.mktemp("own")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", folder / "site", ROOT / "tests" / "plugins"],
        check=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), np.uint8)).save(folder / "photos" / f"{name}.png")
    (folder / "config.py").write_text(CONFIG)
    succeed(folder, "train", "config.py", "--workdir", "run", *(word for pair in NAMED.items() for word in pair))
    return folder


def test_a_run_is_trained_with_all_of_them_and_says_so(folder):
    status = json.loads((folder / "run" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("complete", 4)
    config = json.loads((folder / "run" / "config.json").read_text())
    for name, value in NAMED.items():
        group, field = name[2:].split(".")
        assert config[group][field] in (value, [value])
    assert config["model"]["prior"] == {"width": 5, "type": "own_parts.prior:OneLayerConfig"}
    losses = [json.loads(line).get("loss") for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(loss) for loss in losses if loss is not None)


def test_the_run_goes_on(folder):
    succeed(folder, "train", "--workdir", "run", "--steps", "6")
    assert json.loads((folder / "run" / "status.json").read_text())["step"] == 6


def test_its_model_is_used(folder):
    succeed(folder, "upscale", "photos/a.png", "-o", "big.png", "--model", "run")
    with Image.open(folder / "big.png") as image:
        assert image.size == (80, 64)


def test_it_is_measured_by_its_own_camera_and_its_own_measure(folder):
    succeed(
        folder,
        *("evaluate", "--model", "run", "--data", "photos", "--json", "scores.json"),
        *("--degradation", "sampling=own_parts.physics:Camera"),
        *("--measures", "psnr_y", "own_parts.measure:largest_error"),
    )
    [row] = json.loads((folder / "scores.json").read_text())["rows"]
    assert "sampling=own_parts.physics:Camera" in row["degradation"]
    assert row["told"] == "physics"
    assert 0 < row["own_parts.measure:largest_error"] <= 255


def test_where_the_package_is_not_installed_one_line_says_so(folder):
    for words in (("upscale", "photos/a.png", "-o", "c.png", "--model", "run"), ("train", "--workdir", "run")):
        done = isr_jax(folder, *words, installed=False)
        assert done.returncode in (1, 2)
        assert done.stderr.count("\n") == 1, done.stderr
        assert "No module named 'own_parts'" in done.stderr


# ------------------------------------------------------------------------------------------- pictures of one's own


class Squares:
    """Pictures of several sizes; one is too small."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.asked.append(index)
        return np.full(((40, 30, 8)[index], 40, 1), 50 * index, np.uint8)


class Wrong(Squares):
    def __getitem__(self, index):
        return np.zeros((40, 40), np.float32)


class Empty(Squares):
    def __len__(self):
        return 0


HERE = "tests.test_plugins"


def test_pictures_become_sub_images_and_what_cannot_be_used_is_named(tmp_path, capsys):
    config = DataConfig(train=(f"{HERE}:Squares",), cache_dir=str(tmp_path), patch_size=8, tile_size=32)
    memory, size, fingerprint = load_memory(config, scale=2, channels=3)
    assert size == len(memory.lr) == 6  # of 40x40 four, of 30x40 two
    assert memory.lr.shape[3] == 3
    said = capsys.readouterr().err
    assert f"skipped {HERE}:Squares, picture 2 is 40x8, too small" in said
    assert load_memory(config, scale=2, channels=3).fingerprint == fingerprint
    assert capsys.readouterr().err == ""  # from the cache


def test_the_digest_changes_with_the_pictures_or_with_what_stands_for_them(monkeypatch):
    pixels = OwnPictures(f"{HERE}:Squares").content
    assert OwnPictures(f"{HERE}:Squares").content == pixels
    monkeypatch.setattr(Squares, "content", "first kind", raising=False)
    told = OwnPictures(f"{HERE}:Squares")
    assert told.content != pixels
    assert told.pictures.asked == []  # none was made for it
    monkeypatch.setattr(Squares, "content", "second kind", raising=False)
    assert OwnPictures(f"{HERE}:Squares").content != told.content


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{HERE}:Wrong", r"picture 0 is float32 \(40, 40\); make it uint8"),
        (f"{HERE}:Empty", "has no pictures"),
        ("builtins:object", "a sequence, with __len__ and __getitem__"),
        (f"{HERE}:Absent", "cannot be imported"),
        ("absent.module:Pictures", "cannot be imported"),
    ],
)
def test_what_is_wrong_with_them_is_said(name, said, tmp_path):
    with pytest.raises(UserError, match=f"data.train.*{said}"):
        load_memory(DataConfig(train=(name,), cache_dir=str(tmp_path)), scale=2, channels=3)


class HalfAPrior(nnx.Module):
    uses_noise_std, reach = False, 0

    def __init__(self, config, *, channels, scale, rngs):
        pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalfAPriorConfig(PriorConfig):
    implementation = f"{HERE}:HalfAPrior"


def test_a_prior_that_lacks_a_member_is_told_which():
    with pytest.raises(ConfigError, match="lacks features_per_lr_pixel, macs_per_pixel, init_carry: see docs"):
        ISRResCNet(ModelConfig(prior=HalfAPriorConfig()), rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_a_camera_that_turns_change_is_told_of(tmp_path, capfd):
    """Trained with turned pictures it learns another's, and the mean over turns is of others, too."""
    photos = write_photos(tmp_path / "photos", [(48, 48)])
    erd = ERDConfig(features=2, num_blocks=1, feedback_steps=0, resolution="lr", border="zero", weight_norm=False)
    model = ModelConfig(scale=2, num_stages=1, physics=f"{HERE}:Rows", projection=False, prior=erd)
    data = DataConfig(train=(str(photos),), cache_dir=str(tmp_path), patch_size=8, batch_size=2, placement="memory")
    config = TrainConfig(model=model, data=data, steps=1)
    for augment, said in ((True, 1), (False, 0)):
        own = dataclasses.replace(config, data=dataclasses.replace(data, augment=augment))
        fit(own, tmp_path / f"run{augment}", quiet=True)
        assert capfd.readouterr().err.count("Rows is another on turned pictures, which data.augment makes") == said
    argv = ["upscale", str(photos / "0.png"), str(tmp_path / "out.png"), "--model", str(tmp_path / "runTrue")]
    assert exit_code(dispatch, [*argv, "--ensemble"]) == 0
    assert "of which --ensemble takes the mean: rather not" in capfd.readouterr().err


class Rows(Physics):
    """Blurs along rows alone."""

    scale = 2

    def apply(self, x):
        return (x[:, ::2, ::2] + x[:, ::2, 1::2]) / 2
