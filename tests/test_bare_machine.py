"""From photographs to a picture upscaled, where only the packages are installed that computing needs."""

import os
import pty
import re
import subprocess
import sys

import pytest
from PIL import Image

from tests.blocked import ROOT, run_command_blocked
from tests.test_datasets import write_photos

ABSENT = ("tyro", "tensorboardX", "matplotlib", "safetensors")
TENSORFLOW = ("tensorflow", "tensorflow_datasets", "tqdm")  # and what it needs itself

CONFIG = """
from isr_jax.config import *

CONFIG = TrainConfig(
    model=ModelConfig(
        scale=2, num_stages=1, physics="bicubic", projection=False,
        prior=ERDConfig(features=2, num_blocks=1, feedback_steps=0, kernel_size=3, border="zero", weight_norm=False,
                        resolution="lr"),
    ),
    data=DataConfig(train=({train!r},), cache_dir={cache!r}, tile_size=48, patch_size=6, batch_size=2,
                    placement="memory"),
    eval=EvalConfig(data=({validation!r},), every=4, log_every=1),
    steps=4,
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    write_photos(folder / "photos", [(48, 48), (60, 50)])
    write_photos(folder / "valid", [(32, 32)], seed=9)
    places = {"train": folder / "photos", "cache": folder / "cache", "validation": folder / "valid"}
    (folder / "config.py").write_text(CONFIG.format(**{name: str(path) for name, path in places.items()}))
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    """What training said, and the run folder."""
    done = run_command_blocked(
        "train", (*ABSENT, *TENSORFLOW), folder / "config.py", "--workdir", folder / "run", "--seed", "3"
    )
    assert done.returncode == 0, done.stderr
    return done.stderr, folder / "run"


def test_training_says_what_is_absent_and_goes_on_in_lines(trained):
    said, run = trained
    assert said.count("isr-jax: tensorboardX is not installed; the record is in metrics.jsonl alone\n") == 1
    assert re.search(r"^step 1 of 4: loss [\d.]+, learning rate [\de.-]+$", said, re.MULTILINE)
    assert re.search(r"^step 4: valid/psnr_y [\d.]+, valid/ssim_y [\d.]+$", said, re.MULTILINE)
    assert said.splitlines()[-1] == f"saved at step 4 of 4 in {run}"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 5
    assert not (run / "tensorboard").exists()


def test_its_model_is_evaluated_and_used(trained, folder):
    _, run = trained
    absent = (*ABSENT, *TENSORFLOW)
    done = run_command_blocked("evaluate", absent, "--model", run, "--data", folder / "valid")
    assert done.returncode == 0, done.stderr
    assert "bicubic" in done.stdout
    done = run_command_blocked("upscale", absent, folder / "valid/0.png", "-o", folder / "big.png", "--model", run)
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "big.png") as image:
        assert image.size == (64, 64)


def test_it_is_followed_to_its_end(trained):
    _, run = trained
    done = run_command_blocked("train", (*ABSENT, *TENSORFLOW, "jax", "numpy"), "--follow", run)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "complete at step 4 of 4"


def test_a_terminal_shows_one_line_that_changes(trained):
    _, run = trained
    main, side = pty.openpty()
    done = run_command_blocked("train", ABSENT, "--follow", run, capture_output=False, stdout=side)
    os.close(side)
    assert done.returncode == 0
    shown = b""
    while not re.search(rb"\r\x1b\[Kstep 4 of 4: loss", shown):  # an OSError, when all is read
        shown += os.read(main, 10_000)
    os.close(main)


def test_curves_need_matplotlib_and_say_so(trained):
    done = run_command_blocked("plot", ABSENT, trained[1])
    assert done.returncode == 1
    assert done.stderr == "isr-jax: matplotlib is not installed; run: pip install 'isr_jax[train]'\n"


def test_a_source_tree_that_is_not_installed_has_an_unknown_version():
    # Without site-packages (-S) nothing is installed.
    code = "from isr_jax.version import package_version; print(package_version())"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("unknown\n", "")
