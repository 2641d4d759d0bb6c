import json

import numpy as np
import pytest
from PIL import Image

from isr_jax.__main__ import dispatch, exit_code


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (24, 30, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    image = Image.fromarray(pixels).resize((150, 130), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.jpg", quality=70)
    Image.new("L", (8, 8), 9).save(tmp_path / "b.png")
    return tmp_path


def test_says_a_line_for_each_picture(files, capsys):
    assert exit_code(dispatch, ["inspect", str(files / "a.jpg"), str(files / "b.png")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "JPEG 70 (4:2:0)" in first
    assert "cannot tell" in second
    assert "too small" in second


def test_json_has_every_field(files, capsys):
    assert exit_code(dispatch, ["inspect", str(files / "a.jpg"), "--json", "--scale", "2"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["scale"] == 2
    assert row["jpeg"]["quality"] == 70
    assert row["jpeg"]["sampling"] == [2, 2]
    assert {"file", "blur", "blur_std", "noise_std", "enlarged", "confidence", "remarks"} <= set(row)


@pytest.mark.parametrize("name", ["a.jpg", "b.png"])
def test_the_plot_is_a_png(files, name):
    assert exit_code(dispatch, ["inspect", str(files / name), "--plot", str(files / "plot.png")]) == 0
    with Image.open(files / "plot.png") as plot:
        assert plot.width > 800


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["none.png"], 1),
        ([""], 2),
        (["{}/a.jpg", "--scale", "0"], 2),
        (["{}/a.jpg", "--plot", "x.pdf"], 2),
        (["{}/a.jpg", "{}/b.png", "--plot", "x.png"], 2),
    ],
)
def test_mistakes_are_one_line(files, capsys, arguments, code):
    assert exit_code(dispatch, ["inspect", *(a.format(files) for a in arguments)]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_a_bad_file_does_not_keep_the_others_from_being_told(files, capsys):
    folder = files / "folder"
    folder.mkdir()
    (folder / "a.jpg").write_bytes((files / "a.jpg").read_bytes())
    (files / "text.png").write_text("no picture")
    arguments = [str(files / "text.png"), str(folder), str(files / "*.jpg")]
    assert exit_code(dispatch, ["inspect", *arguments]) == 3
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == [str(folder / "a.jpg"), str(files / "a.jpg")]
    assert said.err.startswith(f"isr-jax: {files / 'text.png'} is not a picture")
    assert exit_code(dispatch, ["inspect", "--json", *arguments]) == 3
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in line for line in told] == [True, False, False]
    before = (files / "b.png").read_bytes()
    assert exit_code(dispatch, ["inspect", str(files / "b.png"), "--plot", str(files / "b.png")]) == 2
    assert (files / "b.png").read_bytes() == before
