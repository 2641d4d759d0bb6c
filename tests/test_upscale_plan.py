"""isr_jax.upscale_plan: which files the command reads, and where it writes, by what lies there."""

import numpy as np
import pytest
from PIL import Image

from isr_jax import upscale
from isr_jax.__main__ import exit_code
from isr_jax.pictures.images import read_image, write_image


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def bicubic(*argv) -> int:
    return exit_code(upscale.main, [*map(str, argv), "--model", "bicubic", "--scale", "2"])


def test_folders_keep_their_structure_and_resume(pixels, tmp_path, capfd, monkeypatch):
    for place in ("a.png", "deep/er/b.jpg", "deep/c.webp", "d.tif", "e.bmp"):
        write_image(tmp_path / "in" / place, pixels)
    Image.fromarray(pixels).quantize(8).save(tmp_path / "in" / "f.gif")
    (tmp_path / "in" / "notes.txt").write_text("not a picture")
    out = tmp_path / "in" / "out"  # inside the input: what is made there is not an input of the next run
    expected = ["a.png", "d.tif", "deep/c.webp", "deep/er/b.jpg", "e.bmp", "f.png"]
    for options in ([], ["--overwrite"]):
        assert bicubic(tmp_path / "in", "--output", out, *options) == 0
        found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
        assert found == expected
    monkeypatch.chdir(tmp_path)
    assert bicubic("in", "--output", out, "--overwrite") == 0  # the same places, spelled otherwise
    assert not (out / "out").exists()
    assert "6/6" in capfd.readouterr().err
    (out / "a.png").write_bytes(b"mine")
    (out / "e.bmp").unlink()
    assert bicubic(tmp_path / "in", "--output", out, "--skip-existing") == 0
    assert "1/1" in capfd.readouterr().err
    assert (out / "a.png").read_bytes() == b"mine"
    assert read_image(out / "e.bmp").pixels.shape == (12, 16, 3)
    assert bicubic(tmp_path / "in", "--output", out, "--skip-existing") == 0
    assert "nothing to do" in capfd.readouterr().err
    assert bicubic(tmp_path / "in" / "deep", "--output", tmp_path / "png", "--format", "PNG") == 0
    assert read_image(tmp_path / "png" / "er" / "b.png").format == "PNG"


def test_what_is_there_is_replaced_only_where_that_was_said(pixels, tmp_path, capfd):
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / "in" / name, pixels)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("b.png", "c.png"):
        (out / name).write_bytes(b"mine")
    assert bicubic(tmp_path / "in", "-o", out) == 2
    said = f"isr-jax: {out / 'b.png'} and 1 more exist already: --overwrite replaces, --skip-existing leaves"
    assert capfd.readouterr().err.startswith(said)
    assert bicubic(tmp_path / "in" / "b.png", "-o", out) == 2  # a folder: the name is ours, not the user's
    assert f"{out / 'b.png'} exists already" in capfd.readouterr().err
    assert bicubic(tmp_path / "in", "-o", out, "--overwrite", "--skip-existing") == 2
    assert "contradict" in capfd.readouterr().err
    assert {path.read_bytes() for path in out.iterdir()} == {b"mine"}
    assert bicubic(tmp_path / "in", "-o", out, "--skip-existing") == 0
    assert (out / "b.png").read_bytes() == b"mine"
    assert read_image(out / "a.png").pixels.shape == (12, 16, 3)
    assert bicubic(tmp_path / "in", "-o", out, "--overwrite") == 0
    assert read_image(out / "b.png").pixels.shape == (12, 16, 3)
    (out / "a.png").write_bytes(b"mine")
    assert bicubic(tmp_path / "in" / "a.png", "-o", out / "a.png") == 0  # named: replaced, as cp does
    assert read_image(out / "a.png").pixels.shape == (12, 16, 3)
    assert bicubic(tmp_path / "in", "-o", tmp_path / "in", "--overwrite") == 2  # an input never is
    assert read_image(tmp_path / "in" / "a.png").pixels.shape == (6, 8, 3)


def test_patterns_and_several_files(pixels, tmp_path):
    for name in ("a1.png", "a2.png", "b1.png"):
        write_image(tmp_path / name, pixels)
    assert bicubic(tmp_path / "a?.png", "--output", tmp_path / "out") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a1.png", "a2.png"]
    assert bicubic(tmp_path / "a1.png", tmp_path / "b1.png", "--output", tmp_path / "two") == 0
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["a1.png", "b1.png"]
    assert bicubic(tmp_path / "a1.png", "--output", tmp_path / "folder") == 0  # no suffix: a folder
    assert (tmp_path / "folder" / "a1.png").is_file()
    assert bicubic(tmp_path / "a1.png", "--output", f"{tmp_path}/v1.0/") == 0
    assert (tmp_path / "v1.0" / "a1.png").is_file()
    (tmp_path / "two" / "b1.png").rename(tmp_path / "two" / "c1.png")
    assert bicubic(tmp_path / "two", "--output", tmp_path, "--overwrite") == 0  # the folder above the input
    assert (tmp_path / "c1.png").is_file()
