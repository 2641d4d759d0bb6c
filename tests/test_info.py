"""The commands that tell: isr-jax models, isr-jax info; and what objects say of themselves."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from random_model import SEVERAL, random_model, save_random_model

import isr_jax
from isr_jax import info, show_models
from isr_jax.__main__ import dispatch, exit_code
from isr_jax.config import ModelConfig
from isr_jax.config.checks import did_you_mean
from isr_jax.inference.upscaler import Upscaler, load
from isr_jax.models.model_file import shipped_models
from isr_jax.version import package_version

CONFIGURATION = Path(__file__).parents[1] / "configs" / "any.py"


def told(capfd, what) -> dict[str, str]:
    """What the command says of something."""
    assert exit_code(info.main, [str(what)]) == 0
    out = capfd.readouterr().out
    return dict(line.split("  ", 1) for line in out.splitlines()) | {"": out}


def refused(capfd, *argv) -> str:
    assert exit_code(dispatch, [str(word) for word in argv]) in (1, 2)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    return said


def test_all_models_are_listed_with_what_they_are_for(capfd):
    assert exit_code(show_models.main, []) == 0
    rows = capfd.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows[1:]] == [*shipped_models(), "bicubic"]
    [row] = [row for row in rows if row.startswith("isr-lite-x2-free")]
    assert "595,022" in row
    assert "trained on free licences alone" in row


def test_a_model_tells_its_configuration_and_its_file(tmp_path, capfd):
    facts = told(capfd, "isr-lite-x3")
    assert facts["physics"].strip() == "bicubic"
    assert facts["parameters"].strip() == "607,997"
    assert len(facts["sha256"].strip()) == 64
    assert facts["model.prior.num_blocks"].strip() == "14"
    assert "BSDS500" in facts["training data"]
    facts = told(capfd, save_random_model(tmp_path / "own.safetensors", 2))
    assert facts["written by"].strip() == f"isr_jax {package_version()}"
    assert "training data" not in facts


def test_a_run_tells_how_it_stands(tmp_path, capfd):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"steps": 40}')
    (run / "status.json").write_text(json.dumps({"state": "stopped", "step": 20}))
    (run / "metrics.jsonl").write_text('{"step": 10, "loss": 3.5}\n{"step": 20, "Set5/psnr_y": 30.25}\n{"st')
    facts = told(capfd, run)
    assert facts["state"].strip() == "stopped"
    assert facts["last record"].strip() == "step 20"
    assert "30.25" in facts["last evaluation"]
    save_random_model(run / "model.safetensors", 2)
    assert told(capfd, run)["scale"].strip() == "x2"


def test_a_picture_tells_its_metadata(tmp_path, capfd):
    image = Image.fromarray(np.zeros((6, 8, 3), np.uint8))
    exif, text = Image.Exif(), PngInfo()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "A Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text.add_text("Title", "a title")
    image.save(tmp_path / "a.png", exif=exif, icc_profile=profile, dpi=(300, 300), pnginfo=text)
    facts = told(capfd, tmp_path / "a.png")
    assert facts["size"].strip() == "8x6"
    assert facts["upright"].strip() == "6x8 (orientation 6)"
    assert facts["mode"].strip() == "RGB (colour)"
    assert "sRGB" in facts["profile"]
    assert facts["exif Make"].strip() == "A Camera"
    assert facts["Title"].strip() == "a title"
    image.convert("P").save(tmp_path / "a.gif", save_all=True, append_images=[image.rotate(90).convert("P")])
    facts = told(capfd, tmp_path / "a.gif")
    assert facts["mode"].strip() == "P (palette)"
    assert facts["profile"].strip() == "none (sRGB)"


def test_what_cannot_be_told_is_named(tmp_path, capfd):
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    (tmp_path / "a.safetensors").write_bytes(b"no model")
    (tmp_path / "a.pth").write_bytes(b"weights")
    assert "a.png: neither a model, nor a run, nor a picture" in refused(capfd, "info", tmp_path / "a.png")
    assert "a.onnx is damaged or not an ONNX file" in refused(capfd, "info", tmp_path / "a.onnx")
    assert "a.safetensors is not a model file" in refused(capfd, "info", tmp_path / "a.safetensors")
    assert "isr-jax convert makes a model file" in refused(capfd, "info", tmp_path / "a.pth")
    assert "not of a run" in refused(capfd, "info", tmp_path)
    assert "no model nothing: give a model file" in refused(capfd, "info", "nothing")


def test_the_nearest_name_is_offered(capfd):
    assert "no model isr_lite_x4 (did you mean isr-lite-x4?)" in refused(capfd, "info", "isr_lite_x4")
    assert "unknown command 'upscail' (did you mean upscale?)" in refused(capfd, "upscail")
    assert "no option --qualty (did you mean --quality?)" in refused(capfd, "upscale", "a", "-o", "b", "--qualty", 3)
    assert "(did you mean --model.num-stages?)" in refused(capfd, "train", CONFIGURATION, "--model.num-stage", 3)
    with pytest.raises(isr_jax.config.ConfigError, match=r"\(did you mean closed_form\?\)"):
        ModelConfig(data_step="closed_from")
    assert did_you_mean("xyz", ["train", "upscale"]) == ""


def test_objects_say_what_they_are_in_a_line():
    assert str(load("isr-lite-x2")) == ("Upscaler('isr-lite-x2': ISRResCNet(x2, bicubic, 1 stage, 595,022 parameters))")
    model = random_model(ModelConfig(scale=3, **SEVERAL))
    assert repr(model).startswith("ISRResCNet(x2, x3, blur, 1 stage, ")
    assert repr(Upscaler(model, ensemble=True, scale=2)).endswith("parameters), x2 by default, ensemble)")


def test_the_package_knows_its_version_without_importing_anything_heavy():
    code = "import isr_jax, sys; print(isr_jax.__version__); assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{package_version()}\n", done.stderr
    assert "__version__" in dir(isr_jax)
