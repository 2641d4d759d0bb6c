"""isr_jax.benchmark.suite and its command: what is kept is not done again, whatever stops it; what the tables say."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from random_model import random_model, save_random_model

import isr_jax
from isr_jax import run_suite
from isr_jax.__main__ import exit_code
from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.config.suite import read_suite
from isr_jax.models.model_file import load_model, save_model, shipped_models
from isr_jax.physics.resize import crop_to_multiple, imresize
from isr_jax.pictures.images import read_image, write_image

SUITE = """
title = "Two ways & one"
sets = ["one", "two"]
scales = [2]
physics = ["bicubic", "blur=1,noise=2"]
measures = ["psnr_y", "ssim_y"]
baseline = "tiny"

[[methods]]
name = "tiny"
model = "tiny.safetensors"

[[methods]]
name = "theirs"
outputs = "theirs/{set}/x{scale}"
"""


@pytest.fixture(scope="module", autouse=True)
def program_cache(tmp_path_factory):
    """Keeps the programs compiled here out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def folder(tmp_path):
    """A suite of a model, another program's results, and two sets: three pictures, and one."""
    rng = np.random.default_rng(0)
    for index, name in enumerate(("one/HR/a", "one/HR/b", "one/HR/c", "two/a")):
        pixels = imresize(rng.integers(0, 256, (7, 8, 3)).astype(np.uint8), 4)
        write_image(tmp_path / f"{name}.png", pixels)
        noisy = np.clip(pixels + rng.normal(0, 4 + index, pixels.shape), 0, 255).astype(np.uint8)
        write_image(tmp_path / "theirs" / name[:3] / "x2" / f"{name[-1]}{'x2' * (index % 2)}.png", noisy)
    save_random_model(tmp_path / "tiny.safetensors", scale=2)
    return write_suite(tmp_path)


PLAIN = SUITE.replace(', "blur=1,noise=2"', "")


def write_suite(folder, text=PLAIN):
    (folder / "suite.toml").write_text(text)
    return folder


def run(folder, *arguments) -> dict:
    """Runs the suite in this process; returns its JSON."""
    argv = [str(folder / "suite.toml"), "-o", str(folder / "out"), *arguments]
    assert exit_code(run_suite.main, argv) == 0
    return json.loads((folder / "out" / "results.json").read_text())


def figures(found: dict) -> dict:
    """All scores of all pictures."""
    return {
        (row["name"], row["dataset"], row.get("degradation"), image["name"]): (image["psnr_y"], image["ssim_y"])
        for row in found["rows"]
        for image in row["images"]
    }


def times(folder) -> dict:
    """When each result and each file of scores was last written."""
    paths = [p for part in ("pictures", "scores") for p in (folder / "out" / part).rglob("*.*") if p.is_file()]
    return {str(path.relative_to(folder / "out")): path.stat().st_mtime_ns for path in paths}


def test_it_scores_as_evaluate_does(folder, capfd):
    found = run(folder)
    said = capfd.readouterr()
    assert [line.partition(" -> ")[0] for line in said.err.splitlines()] == ["1/2 one x2", "2/2 two x2"]
    assert "9 of 9 pictures scored anew" in said.err
    rows = {(row["name"], row["dataset"]): row for row in found["rows"]}
    assert list(rows) == [(name, data) for data in ("one", "two") for name in ("bicubic", "tiny", "theirs")]
    result = isr_jax.run_benchmark(folder / "tiny.safetensors", [folder / "one", folder / "two"])
    for row in (*result.rows, *result.bicubic):
        ours = rows[row.label, row.dataset]
        assert ours["psnr_y"] == pytest.approx(row.mean("psnr_y"), abs=1e-3)
        assert ours["ssim_y"] == pytest.approx(row.mean("ssim_y"), abs=1e-5)
        assert ours["parameters"] == row.cost.parameters
        assert ours["lr_source"] == "imresize"
    written = read_image(folder / "out" / "pictures" / "bicubic" / "one" / "x2" / "b.png").pixels
    truth = crop_to_multiple(read_image(folder / "one" / "HR" / "b.png").pixels, 2)
    np.testing.assert_array_equal(written, imresize(imresize(truth, 0.5), 2))
    [theirs] = [row for row in found["rows"] if (row["name"], row["dataset"]) == ("theirs", "two")]
    assert theirs["parameters"] == 0
    assert theirs["psnr_y"] > 25
    difference = found["differences"]["of"][2]
    assert (difference["name"], difference["baseline"], difference["measure"]) == ("theirs", "tiny", "psnr_y")
    means = [rows[name, "one"]["psnr_y"] for name in ("theirs", "tiny")]
    assert difference["mean"] == pytest.approx(means[0] - means[1])
    assert difference["low"] <= difference["mean"] <= difference["high"]
    table = (folder / "out" / "results.md").read_text()
    assert said.out == table
    assert f"{means[0]:.2f} / {rows['theirs', 'one']['ssim_y']:.4f}" in table
    assert "95% interval of the paired bootstrap" in table
    page = (folder / "out" / "index.html").read_text()
    assert "<h1>Two ways &amp; one</h1>" in page
    assert "Differences to tiny" in page
    assert len(json.loads(page.partition('application/json">')[2].partition("</script>")[0])["pictures"]) == 4


def test_latex_has_the_best_in_bold(folder):
    run(folder)
    lines = (folder / "out" / "results.tex").read_text().splitlines()
    assert lines[0].startswith("% Two ways & one: PSNR-Y / SSIM-Y")
    [line] = [line for line in lines if line.startswith("one & x2 & ") and "[" not in line]
    cells = line.removesuffix(r" \\").split(" & ")[2:]
    values = [float(cell.split(" / ")[0].removeprefix(r"\textbf{").removesuffix("}")) for cell in cells]
    assert [r"\textbf" in cell.split(" / ")[0] for cell in cells] == [value == max(values) for value in values]
    assert sum(r"\begin{tabular}" in line for line in lines) == 2


def test_what_is_kept_is_not_done_again(folder, capfd):
    first, before = run(folder), times(folder)
    capfd.readouterr()
    again = run(folder)
    assert times(folder) == before
    assert again == first
    assert "0 of 9 pictures scored anew" in capfd.readouterr().err
    # ---- the page is that of the tables ----
    write_suite(folder, (folder / "suite.toml").read_text().replace("& one", "& none"))
    run(folder)
    assert times(folder) == before
    assert "&amp; none</h1>" in (folder / "out" / "index.html").read_text()
    capfd.readouterr()
    # ---- another picture: it alone ----
    pixels = read_image(folder / "one" / "HR" / "a.png").pixels
    write_image(folder / "one" / "HR" / "a.png", 255 - pixels)
    changed = figures(run(folder))
    assert "3 of 9" in capfd.readouterr().err
    assert {key[3] for key in changed if changed[key] != figures(first)[key]} == {"a"}
    # ---- another model: its results alone; another output: it alone ----
    save_random_model(folder / "other.safetensors", scale=2)
    write_suite(folder, (folder / "suite.toml").read_text().replace("tiny.safetensors", "other.safetensors"))
    run(folder)
    assert "0 of 9" in capfd.readouterr().err  # whose content is the same
    save_model(folder / "other.safetensors", load_model(folder / "other.safetensors"), {"note": "another file"})
    path = folder / "theirs" / "two" / "x2" / "ax2.png"
    write_image(path, 255 - read_image(path).pixels)
    (folder / "out" / "pictures" / "bicubic" / "one" / "x2" / "b.png").unlink()
    run(folder)
    said = capfd.readouterr().err
    assert "4 of 9" in said  # the model's three, and what was deleted
    assert "2 of 3" in said  # the model's, and the output


CAMERA = """
import isr_jax

class Camera(isr_jax.Physics):
    scale = 2

    def apply(self, x):
        return {share} * x[:, ::2, ::2]
"""


def test_a_model_whose_own_physics_has_changed_is_run_anew(folder, monkeypatch):
    (folder / "lens.py").write_text(CAMERA.format(share=1.0))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    config = ModelConfig(scale=2, num_stages=1, physics="lens:Camera", prior=ERDConfig(features=2, num_blocks=1))
    save_model(folder / "tiny.safetensors", random_model(config))
    first = figures(run(folder))
    (folder / "lens.py").write_text(CAMERA.format(share=0.5))
    monkeypatch.delitem(sys.modules, "lens")
    importlib.invalidate_caches()
    again = figures(run(folder))
    changed = {name for name, *_ in (key for key in first if first[key] != again[key])}
    assert changed == {"tiny"}


def test_another_measure_runs_no_model(folder, capfd):
    first, before = run(folder), times(folder)
    text = (folder / "suite.toml").read_text()
    write_suite(folder, text.replace('"ssim_y"]', '"ssim_y", "lr_psnr"]'))
    found = run(folder)
    assert all("lr_psnr" in image for row in found["rows"] for image in row["images"])
    assert figures(found) == figures(first)
    assert {k: v for k, v in times(folder).items() if k.endswith(".png")} == {
        k: v for k, v in before.items() if k.endswith(".png")
    }
    assert "9 of 9 pictures scored anew" in capfd.readouterr().err
    # ---- a result that was changed meanwhile is not trusted ----
    write_image(folder / "out" / "pictures" / "tiny" / "one" / "x2" / "a.png", np.zeros((28, 32, 3), np.uint8))
    write_suite(folder, text.replace('"ssim_y"]', '"ssim_y", "psnr_rgb"]'))
    assert figures(run(folder)) == figures(first)


def test_physics_are_told_apart(folder):
    write_suite(folder, SUITE.replace('"theirs/{set}/x{scale}"', '"theirs/{set}/x{scale}/{physics}"'))
    for place in ("one", "two"):
        for physics in ("bicubic", "blur=1,noise=2"):
            for file in (folder / "theirs" / place / "x2").glob("*.png"):
                write_image(folder / "theirs" / place / "x2" / physics / file.name, read_image(file))
    found = run(folder)
    assert {row.get("degradation", "")[:15] for row in found["rows"]} == {"", "blur=1,noise=2,"}
    bicubic = [row for row in found["rows"] if (row["name"], row["dataset"]) == ("bicubic", "one")]
    assert ["degradation" in row for row in bicubic] == [False, True]
    assert bicubic[0]["psnr_y"] != bicubic[1]["psnr_y"]
    assert (folder / "out" / "pictures" / "tiny" / "one" / "blur=1,noise=2" / "x2" / "a.png").exists()
    table = (folder / "out" / "results.md").read_text()
    assert "| one, blur=1,noise=2 |" in table
    assert "LR pictures are made by blur=1,noise=2,sampling=decimation" in table


def test_without_pictures_there_are_tables_alone(folder):
    first = run(folder, "--no-pictures")
    assert not (folder / "out" / "pictures").exists()
    assert "here are the tables alone" in (folder / "out" / "index.html").read_text()
    assert run(folder, "--no-pictures") == first


def test_killed_it_goes_on(folder):
    """Killed twice in the middle, once while a line is being written; the figures are those of a whole run."""
    (folder / "slow.py").write_text(
        "import time\ndef seconds(comparison):\n    time.sleep(0.12)\n    return float(comparison.result.mean())\n"
    )
    text = PLAIN.replace('"tiny.safetensors"', '"bicubic"').replace("tiny", "plain")
    write_suite(folder, text.replace('"ssim_y"]', '"ssim_y", "slow:seconds"]'))
    command = [sys.executable, "-m", "isr_jax", "benchmark", str(folder / "suite.toml"), "-o", str(folder / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    scores = folder / "out" / "scores" / "plain" / "one" / "x2.jsonl"

    def kill_after(lines: int) -> None:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not (scores.exists() and scores.read_bytes().count(b"\n") >= lines):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    kill_after(1)
    first = scores.read_bytes()
    written = times(folder)["pictures/plain/one/x2/a.png"]
    scores.write_bytes(first + b'{"name": "b", "ke')  # as if it had been killed here
    kill_after(2)
    assert scores.read_bytes().startswith(first)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (0, 2)
    assert times(folder)["pictures/plain/one/x2/a.png"] == written
    names = [json.loads(line)["name"] for line in scores.read_text().splitlines() if line.endswith("}")]
    assert names == ["a", "b", "c"]
    resumed = json.loads((folder / "out" / "results.json").read_text())
    process = subprocess.run([*command[:-1], str(folder / "fresh")], env=environment, capture_output=True)
    assert process.returncode == 0
    assert figures(json.loads((folder / "fresh" / "results.json").read_text())) == figures(resumed)


def test_an_interrupt_leaves_what_was_done(folder):
    (folder / "slow.py").write_text("import time\ndef seconds(comparison):\n    time.sleep(0.12)\n    return 0.0\n")
    text = PLAIN.replace('"tiny.safetensors"', '"bicubic"')
    write_suite(folder, text.replace('"ssim_y"]', '"ssim_y", "slow:seconds"]'))
    command = [sys.executable, "-m", "isr_jax", "benchmark", str(folder / "suite.toml"), "-o", str(folder / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folder / "out" / "results.json").exists():  # the first set is done
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert f"what is done is kept in {folder / 'out'}: the same command goes on" in said
    assert said.splitlines()[-1] == "isr-jax: interrupted"
    assert {row["dataset"] for row in json.loads((folder / "out" / "results.json").read_text())["rows"]} == {"one"}


def test_a_method_has_its_own_scales(folder):
    """A scale at which no method is scored is passed over; a row that is absent is a dash."""
    text = PLAIN.replace("scales = [2]", "scales = [2, 3, 4]").replace(
        '"tiny.safetensors"', '"bicubic"\nscales = [2, 3]'
    )
    write_suite(folder, text.replace('x{scale}"', 'x{scale}"\nscales = [2]'))
    found = run(folder)
    scored = [(row["name"], row["scale"]) for row in found["rows"] if row["dataset"] == "two"]
    assert scored == [("tiny", 2), ("theirs", 2), ("tiny", 3)]
    [line] = [
        line for line in (folder / "out" / "results.md").read_text().splitlines() if line.startswith("| two | x3 ")
    ]
    assert line.split("|")[4].strip() == "–"


def test_a_picture_without_a_measure_is_named(folder, capfd):
    tiny = np.random.default_rng(1).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    write_image(folder / "one" / "HR" / "d.png", tiny)
    write_image(folder / "theirs" / "one" / "x2" / "d.png", tiny)
    run(folder, "--quiet")
    assert capfd.readouterr().err == "isr-jax: one: no ssim_y, which cannot be taken of d\n"


def test_pictures_that_are_not_read_are_named(folder, capfd):
    (folder / "one" / "HR" / "d.psd").write_bytes(b"not read")
    assert exit_code(run_suite.main, [str(folder / "suite.toml"), "-o", str(folder / "out")]) == 3
    assert f"{folder}/one/HR/d.psd is left out: .psd is not read" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ('sets = ["one", "two"]', "", 2, "suite.toml: sets is missing: write sets"),
        ('"two"]', '"three"]', 2, "three: no such folder"),
        ('"two"]', '"one/HR"]', 2, "two of the sets are called one"),
        ("scales = [2]", "scale = [2]", 2, "unknown field scale (did you mean scales?)"),
        ("scales = [2]", "scales = 2", 2, "scales is 2; it must be a list, as scales = [2]"),
        ("scales = [2]", "scales = [3]", 2, "method tiny: tiny.safetensors is made for x2, not x3: give it scales"),
        ("model =", "modell =", 2, "methods[0] (tiny): unknown field modell (did you mean model?)"),
        ("tiny.safetensors", "tyni.safetensors", 2, "method tiny: no model tyni.safetensors"),
        (
            "tiny.safetensors",
            "isr-lite-x{scale:q}",
            2,
            "methods[0] (tiny): model is 'isr-lite-x{scale:q}'; between braces",
        ),
        ("tiny.safetensors", "isr-lite-x{scale!x}", 2, "; between braces there is a name"),
        ('name = "tiny"', 'name = "bicubic"', 2, "methods[0] (bicubic): name is 'bicubic', which is that of bicubic"),
        ('["bicubic"]', "[]", 2, 'suite.toml: physics is missing: write physics = ["bicubic"], or leave it out'),
        ("tiny.safetensors", "isr-lite-x{scal}", 2, "methods[0] (tiny): model has {scal} (did you mean scale?)"),
        ('name = "theirs"', 'name = "their/s"', 2, "methods[1] (their/s): name is"),
        ('name = "theirs"', 'name = "tiny"', 2, "methods has tiny twice"),
        ('name = "theirs"', 'name = "theirs"\nensemble = true', 2, "leave them out beside outputs"),
        ("{set}/x{scale}", "x{scale}", 2, "methods[1].outputs is the same for each set: put {set} into it"),
        ("theirs/{set}", "ours/{set}", 2, "no such folder, where theirs should have its results of one x2"),
        ('"psnr_y"', '"psnry"', 2, "suite.toml: measures has psnry (did you mean psnr_y?)"),
        ('"bicubic"', '"bicubic", "blur=x"', 2, "methods[1].outputs is the same for each physics"),
        ('["bicubic"]', '["noise=x"]', 2, "suite.toml: physics has 'noise=x': noise=x; it is a number"),
        ('baseline = "tiny"', 'baseline = "tinny"', 2, "baseline is 'tinny' (did you mean tiny?)"),
        ("title = ", "title ", 2, "suite.toml: not TOML"),
        (
            '"tiny.safetensors"',
            '"tiny.safetensors"\nnum_stages = 7',
            2,
            "num_stages is 7; tiny.safetensors has",
        ),
    ],
)
def test_bad_suites_give_one_line(folder, capfd, old, new, code, message):
    text = (folder / "suite.toml").read_text()
    assert old in text
    write_suite(folder, text.replace(old, new))
    assert exit_code(run_suite.main, [str(folder / "suite.toml"), "-o", str(folder / "out")]) == code
    said = capfd.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (folder / "out").exists()


def test_outputs_that_do_not_match_give_one_line(folder, capfd):
    argv = [str(folder / "suite.toml"), "-o", str(folder / "out")]
    path = folder / "theirs" / "one" / "x2" / "bx2.png"
    write_image(path, np.zeros((30, 32, 3), np.uint8))
    assert exit_code(run_suite.main, argv) == 1
    assert "bx2.png is 32x30; its truth, cut to a multiple of the scale, 32x28" in capfd.readouterr().err
    path.unlink()
    assert exit_code(run_suite.main, argv) == 1
    assert "lacks b, a result of theirs" in capfd.readouterr().err
    write_suite(folder, (folder / "suite.toml").read_text().replace("x{scale}", "x{scale}/{name}.png"))
    assert exit_code(run_suite.main, argv) == 1
    assert "bx2" not in (said := capfd.readouterr().err)
    assert "is missing: theirs lacks the result of b" in said
    assert exit_code(run_suite.main, [str(folder / "none.toml")]) == 2
    assert "none.toml: cannot be read" in capfd.readouterr().err
    (folder / "file").write_text("a file")
    assert exit_code(run_suite.main, [*argv[:2], str(folder / "file")]) == 2
    assert "is a file: name a folder" in capfd.readouterr().err


def test_the_projects_own_suite_names_shipped_models():
    suite = read_suite(Path(__file__).parents[1] / "configs" / "benchmark.toml")
    models = [method.model.format(scale=scale) for method in suite.methods for scale in suite.scales]
    assert set(models) <= {"bicubic", *shipped_models()}
    assert suite.baseline in {method.name for method in suite.methods}
