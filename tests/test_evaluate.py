"""isr_jax.evaluate: the protocol against its definition, the known figures, and every way the input can be wrong."""

import csv
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from skimage.metrics import peak_signal_noise_ratio

from isr_jax import evaluate
from isr_jax.__main__ import exit_code
from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.inference.upscaler import Upscaler
from isr_jax.models.model_file import save_model
from isr_jax.physics.resize import crop_to_multiple, imresize
from isr_jax.pictures.images import Picture, read_image, write_image
from isr_jax.pictures.metrics import psnr, rgb_to_luma, round_to, ssim
from isr_jax.solver.unrolled import ISRResCNet


@pytest.fixture(scope="module", autouse=True)
def program_cache(tmp_path_factory):
    """Keeps the programs compiled here out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def smooth(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (height // 4 + 2, width // 4 + 2, channels))
    return np.clip(imresize(coarse, size=(height, width)) + rng.normal(0, 5, (height, width, channels)), 0, 255).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five pictures of two shapes, one of them grey, sizes that the scale does not divide; LR for x3 only."""
    folder = tmp_path_factory.mktemp("data") / "Little"
    for index, (height, width, channels) in enumerate(
        [(45, 37, 3), (45, 37, 1), (30, 50, 3), (45, 37, 3), (30, 50, 3)]
    ):
        pixels = smooth(height, width, channels, index)
        write_image(folder / "HR" / f"{'edcba'[index]}.png", pixels)
        write_image(folder / "LRx3" / f"{'edcba'[index]}.png", imresize(crop_to_multiple(pixels, 3), 1 / 3))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two model files and the models in them."""
    folder = tmp_path_factory.mktemp("models")
    result = {}
    for seed in range(2):
        erd = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3)
        model = ISRResCNet(ModelConfig(scale=2, num_stages=2, physics="none", prior=erd), rngs=nnx.Rngs(seed))
        path = folder / f"model{seed}.safetensors"
        save_model(path, model)
        result[str(path)] = model
    return result


def run_json(tmp_path, *argv) -> dict:
    path = tmp_path / "out" / "result.json"
    assert exit_code(evaluate.main, [*map(str, argv), "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_lr_psnr_is_left_out_where_other_than_imresize_made_the_files(tmp_path):
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (32, 24, 3), np.uint8)
    for name, lr in (("a", imresize(hr, 0.5)), ("b", hr[::2, ::2])):
        write_image(tmp_path / name / "HR" / "one.png", hr)
        write_image(tmp_path / name / "LRx2" / "one.png", lr)
    argv = ["--model", "bicubic", "--data", tmp_path / "a", tmp_path / "b", "--scale", 2]
    values = [row["lr_psnr"] for row in run_json(tmp_path, *argv)["rows"]]
    assert values[0] > 20
    assert values[1] is None


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("dataset", ["Set5", "Set14"])
def test_bicubic_has_the_known_figures(shared, tmp_path, scale, dataset):
    known = {  # PSNR-Y, SSIM-Y, SSIM-Y of rounded Y: quoted are SSIMs between the two, as 0.9299
        ("Set5", 2): (33.67, 0.9303, 0.9292),
        ("Set5", 3): (30.40, 0.8689, 0.8678),
        ("Set5", 4): (28.43, 0.8111, 0.8101),
        ("Set14", 2): (30.32, 0.8699, 0.8691),
        ("Set14", 3): (27.63, 0.7759, 0.7751),
        ("Set14", 4): (26.09, 0.7048, 0.7041),
    }
    argv = ["--model", "bicubic", "--data", shared / "data" / dataset, "--scale", scale]
    [row] = run_json(tmp_path, *argv)["rows"]
    assert row["psnr_y"] == pytest.approx(known[dataset, scale][0], abs=0.01)
    assert row["ssim_y"] == pytest.approx(known[dataset, scale][1], abs=6e-5)
    assert row["ssim_y_rounded"] == pytest.approx(known[dataset, scale][2], abs=6e-5)
    assert row["sentinel_ok"] is True
    assert row["lr_source"] == "files"
    assert len(row["images"]) == {"Set5": 5, "Set14": 14}[dataset]


def test_protocol_is_its_definition(data, tmp_path):
    [row] = run_json(tmp_path, "--model", "bicubic", "--data", data, "--scale", 2)["rows"]
    assert (row["model"], row["dataset"], row["scale"], row["ensemble"]) == ("bicubic", "Little", 2, False)
    assert (row["lr_source"], row["border"]) == ("imresize", 2)
    assert [image["name"] for image in row["images"]] == list("abcde")
    for image in row["images"]:
        hr = read_image(data / "HR" / f"{image['name']}.png").pixels
        hr = hr[: hr.shape[0] // 2 * 2, : hr.shape[1] // 2 * 2]
        sr = imresize(imresize(hr, 0.5), 2)
        luma, truth = (rgb_to_luma(x)[2:-2, 2:-2] for x in (sr, hr))
        assert image["psnr_y"] == pytest.approx(peak_signal_noise_ratio(truth, luma, data_range=255))
        assert image["ssim_y"] == pytest.approx(ssim(luma, truth))
        assert image["ssim_y_rounded"] == pytest.approx(ssim(np.round(luma), np.round(truth)))
        assert image["psnr_rgb"] == pytest.approx(psnr(sr[2:-2, 2:-2], hr[2:-2, 2:-2]))
        assert image["lr_psnr"] == pytest.approx(psnr(imresize(sr, 0.5), imresize(hr, 0.5)))  # the whole of it
    assert "ssim_y_rounded" in row["rounding"]
    for metric in ("psnr_y", "ssim_y", "ssim_y_rounded", "psnr_rgb", "ssim_rgb", "lr_psnr"):
        assert row[metric] == pytest.approx(np.mean([image[metric] for image in row["images"]]))


def test_lr_files_are_used_as_they_are(data, tmp_path):
    [files] = run_json(tmp_path, "--model", "bicubic", "--data", data, "--scale", 3)["rows"]
    assert files["lr_source"] == "files"
    assert files["psnr_y"] > 20
    copy = tmp_path / "Little"
    for path in (data / "HR").iterdir():
        write_image(copy / "HR" / path.name, read_image(path))
    [made] = run_json(tmp_path, "--model", "bicubic", "--data", copy, "--scale", 3)["rows"]
    assert made["lr_source"] == "imresize"
    assert made["psnr_y"] == files["psnr_y"]
    assert made["data_sha256"] == files["data_sha256"]
    write_image(copy / "LRx3" / "a.png", np.zeros((10, 16, 3), np.uint8))
    for name in "bcde":
        write_image(copy / "LRx3" / f"{name}.png", read_image(data / "LRx3" / f"{name}.png"))
    [dark] = run_json(tmp_path, "--model", "bicubic", "--data", copy, "--scale", 3)["rows"]
    assert dark["psnr_y"] < files["psnr_y"]
    assert dark["data_sha256"] != files["data_sha256"]


def test_models_side_by_side(data, models, tmp_path, capfd):
    names = [*models, "bicubic"]
    outputs = ["--csv", tmp_path / "t.csv", "--markdown", tmp_path / "t.md", "--plot", tmp_path / "t.svg"]
    argv = ["--data", data, "--per-stage", *outputs, "--save-dir", tmp_path / "saved", "--model", *names]
    rows = run_json(tmp_path, *argv)["rows"]
    assert [row["model"] for row in rows] == names
    for row, (name, model) in zip(rows, models.items(), strict=False):
        for image in row["images"]:
            hr = crop_to_multiple(read_image(data / "HR" / f"{image['name']}.png").pixels, 2)
            sr = Upscaler(model).upscale(imresize(hr, 0.5))
            saved = (
                tmp_path / "saved" / name.rpartition("/")[2].split(".")[0] / "Little" / "x2" / f"{image['name']}.png"
            )
            assert (saved.exists(), image["name"]) == (True, image["name"])
            np.testing.assert_allclose(read_image(saved).pixels.astype(int), sr, atol=1)
            luma, truth = (rgb_to_luma(x)[2:-2, 2:-2] for x in (sr, hr))
            assert image["psnr_y"] == pytest.approx(psnr(luma, truth), abs=1e-3)
            assert image["stages_psnr_y"][-1] == image["psnr_y"]
        assert len(row["stages_psnr_y"]) == row["num_stages"] == 2
        assert row["stages_psnr_y"][1] == pytest.approx(row["psnr_y"])
        assert row["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(model))
        assert row["compilations"] + row["cache_hits"] == 2  # as many as there are shapes
        assert row["peak_bytes"] > 0
        assert row["seconds"] > 0
    said = capfd.readouterr()
    assert said.out.count("| Little ") == 3
    assert said.out.index("bicubic") < said.out.index("model0")
    assert "stage" in said.out
    assert (tmp_path / "t.md").read_text().strip() == said.out.strip()
    with (tmp_path / "t.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["image"] for line in lines[:6]] == [*"abcde", "mean"]
    assert float(lines[5]["psnr_y"]) == rows[0]["psnr_y"]
    assert lines[0]["data_sha256"] == rows[0]["data_sha256"]
    assert "</svg>" in (tmp_path / "t.svg").read_text()


def test_a_picture_without_a_measure_is_named(tmp_path, capfd):
    for name, side in (("a.png", 8), ("b.png", 40)):
        write_image(tmp_path / "set" / name, np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
    argv = ["--model", "bicubic", "--data", tmp_path / "set", "--scale", 2]
    [row] = run_json(tmp_path, *argv)["rows"]
    assert row["ssim_y"] is None
    assert capfd.readouterr().err == "isr-jax: set: no ssim_y, ssim_y_rounded, ssim_rgb, which cannot be taken of a\n"


def test_measures_are_chosen(data, tmp_path, capfd, monkeypatch):
    (tmp_path / "darkest.py").write_text("def level(pair): return float(pair.result.min())\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    names, page = ["lr_psnr", "ms_ssim", "darkest:level"], tmp_path / "r.html"
    outputs = ["--csv", tmp_path / "t.csv", "--plot", tmp_path / "t.svg", "--report", page]
    argv = ["--model", "bicubic", "--data", data, "--scale", 2, "--measures", *names, *outputs]
    [row] = run_json(tmp_path, *argv)["rows"]
    assert list(row["images"][0]) == ["name", *names]
    assert row["ms_ssim"] is None  # the pictures are too small
    head, _, line = capfd.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.split("|")[4:7]] == ["LR-PSNR", "MS-SSIM", "level"]
    assert line.split("|")[5].strip() == "-"
    with (tmp_path / "t.csv").open() as file:
        assert [name for name in next(csv.reader(file)) if name in names] == names
    assert "MS-SSIM: five scales" in page.read_text()
    assert exit_code(evaluate.main, [*map(str, argv[:6]), "--measures", "ssimy"]) == 2
    assert "`measures`" not in (said := capfd.readouterr().err)
    assert "--measures has ssimy (did you mean ssim_y?)" in said


def test_batch_size_and_stages_and_ensemble(data, models, tmp_path):
    name = next(iter(models))
    [whole] = run_json(tmp_path, "--model", name, "--data", data)["rows"]
    [single] = run_json(tmp_path, "--model", name, "--data", data, "--batch-size", 1)["rows"]
    for one, other in zip(whole["images"], single["images"], strict=True):
        assert one["name"] == other["name"]
        assert one["psnr_y"] == pytest.approx(other["psnr_y"], abs=1e-3)
    [early] = run_json(tmp_path, "--model", name, "--data", data, "--num-stages", 1)["rows"]
    assert early["num_stages"] == 1
    [both] = run_json(tmp_path, "--model", name, "--data", data, "--per-stage")["rows"]
    assert both["stages_psnr_y"][0] == pytest.approx(early["psnr_y"], abs=1e-3)
    [plus] = run_json(tmp_path, "--model", name, "--data", data, "--ensemble")["rows"]
    assert plus["ensemble"] is True
    assert plus["macs_per_pixel"] == 8 * whole["macs_per_pixel"]
    upscaler = Upscaler(models[name], ensemble=True)
    hr = crop_to_multiple(read_image(data / "HR" / "a.png").pixels, 2)
    sr = round_to(upscaler.upscale_batch(imresize(hr, 0.5).astype(np.float32)[None])[0], np.uint8)
    luma, truth = (rgb_to_luma(x)[2:-2, 2:-2] for x in (sr, hr))
    expected = psnr(luma, truth)
    assert plus["images"][0]["psnr_y"] == pytest.approx(expected, abs=1e-3)


def test_a_second_run_compiles_nothing(data, models, tmp_path):
    argv = ["--model", next(iter(models)), "--data", data]
    run_json(tmp_path, *argv)
    [row] = run_json(tmp_path, *argv)["rows"]
    assert (row["compilations"], row["cache_hits"]) == (0, 2)


def test_wrong_data_under_a_known_name_is_caught(tmp_path, capfd):
    write_image(tmp_path / "Set5" / "HR" / "a.png", smooth(40, 40))
    [row] = run_json(tmp_path, "--model", "bicubic", "--data", tmp_path / "Set5", "--scale", 2)["rows"]
    assert row["sentinel_ok"] is False
    said = capfd.readouterr().err
    assert "WARNING: bicubic enlargement of Set5 x2 has" in said
    assert said.count("\n") == 1


def test_equal_and_tiny_pictures_are_null_in_json(tmp_path, capfd):
    write_image(tmp_path / "flat" / "HR" / "a.png", np.full((9, 9, 3), 90, np.uint8))
    argv = ["--model", "bicubic", "--data", str(tmp_path / "flat"), "--scale", "2"]
    [row] = run_json(tmp_path, *argv)["rows"]
    capfd.readouterr()
    metrics = ("psnr_y", "ssim_y", "ssim_y_rounded", "psnr_rgb", "ssim_rgb", "lr_psnr")
    assert row["images"][0] == {"name": "a", **dict.fromkeys(metrics)}
    assert [row[metric] for metric in metrics] == [None] * 6
    assert exit_code(evaluate.main, [*argv, "--csv", str(tmp_path / "t.csv")]) == 0
    assert capfd.readouterr().out.splitlines()[-1].count(" inf ") == 3  # those on luma, on RGB and of LR
    with (tmp_path / "t.csv").open() as file:
        [line, _] = csv.DictReader(file)
    assert [line[metric] for metric in metrics] == ["inf", "", "", "inf", "", "inf"]


def test_bicubic_needs_no_jax(data):
    script = f"""
import sys
from isr_jax.evaluate import main
main(["--model", "bicubic", "--data", {str(data)!r}, "--scale", "2"])
assert "jax" not in sys.modules and "matplotlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, stdout=subprocess.DEVNULL)


def break_data(folder, kind: str):
    """Makes a folder of test pictures that is wrong in one way."""
    pixels = smooth(24, 24)
    if kind != "nothing":
        write_image(folder / "HR" / "a.png", pixels)
        write_image(folder / "HR" / "b.png", pixels)
    match kind:
        case "nothing":
            folder.mkdir()
        case "empty":
            for path in (folder / "HR").iterdir():
                path.unlink()
        case "corrupt":
            (folder / "HR" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
        case "LR lacks":
            write_image(folder / "LRx2" / "a.png", pixels[::2, ::2])
        case "HR lacks":
            for name in "abc":
                write_image(folder / "LRx2" / f"{name}.png", pixels[::2, ::2])
        case "LR size":
            for name in "ab":
                write_image(folder / "LRx2" / f"{name}.png", pixels)
        case "deep":
            write_image(folder / "HR" / "b.png", pixels.astype(np.uint16))
        case "transparent":
            write_image(folder / "HR" / "b.png", Picture(pixels=pixels, alpha=pixels[..., 0]))
        case "tiny":
            write_image(folder / "HR" / "b.png", pixels[:3])
        case "twins":
            write_image(folder / "HR" / "b.bmp", pixels)


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("nothing", 1, "bad has no pictures"),
        ("empty", 1, "HR has no pictures"),
        ("corrupt", 1, "b.png is"),
        ("LR lacks", 1, "LRx2 lacks b"),
        ("HR lacks", 1, "HR lacks c"),
        ("LR size", 1, "a.png is 24x24; its HR picture at scale 2 needs 12x12"),
        ("deep", 1, "b.png has 16 bits"),
        ("transparent", 1, "b.png is transparent"),
        ("tiny", 1, "b.png is 24x3, too small for scale 2"),
        ("twins", 1, "b.bmp and b.png are two pictures of one name"),
    ],
)
def test_bad_data_gives_one_line(tmp_path, capfd, kind, code, message):
    break_data(tmp_path / "bad", kind)
    argv = ["--model", "bicubic", "--data", str(tmp_path / "bad"), "--scale", "2", "--json", str(tmp_path / "r.json")]
    assert exit_code(evaluate.main, argv) == code
    said = capfd.readouterr()
    assert message in said.err
    assert said.err.startswith("isr-jax: ")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "r.json").exists()


def test_what_is_not_read_is_named(data, tmp_path, capfd):
    """As isr-jax upscale does: a line each, exit code 3; the others are scored."""
    folder = tmp_path / "some"
    write_image(folder / "HR" / "a.png", smooth(24, 24))
    write_image(folder / "LRx2" / "a.png", smooth(12, 12))
    for path in (folder / "HR" / "photo.CR2", folder / "LRx2" / "b.psd", folder / "LRx3" / "c.psd"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not read")
    (folder / "HR" / "licence.txt").write_text("CC0")
    argv = ["--model", "bicubic", "--data", str(folder), "--scale", "2", "--json", str(tmp_path / "r.json")]
    assert exit_code(evaluate.main, argv) == 3
    assert capfd.readouterr().err.splitlines() == [
        f"isr-jax: {folder}/HR/photo.CR2 is left out: .CR2 is not read; convert it to PNG or TIFF",
        f"isr-jax: {folder}/LRx2/b.psd is left out: .psd is not read; convert it to PNG or TIFF",
    ]
    assert len(json.loads((tmp_path / "r.json").read_text())["rows"][0]["images"]) == 1
    (folder / "LRx2" / "b.psd").rename(folder / "LRx2" / "b.png")
    (folder / "HR" / "b.psd").write_bytes(b"not read")
    assert exit_code(evaluate.main, argv) == 1
    assert "HR/b.psd is not read, and" in capfd.readouterr().err
    (folder / "HR" / "a.png").unlink()
    assert exit_code(evaluate.main, argv) == 1
    assert "b.psd is not: convert" in capfd.readouterr().err


def test_a_table_that_could_not_be_written_is_told_before_the_work(data, tmp_path, capfd):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "a.json"
    assert exit_code(evaluate.main, ["--model", "nothing", "--data", str(data), "--json", str(place)]) == 1
    assert f"{place}: Not a directory" in capfd.readouterr().err
    place = tmp_path / "new" / "a.json"
    assert exit_code(evaluate.main, ["--model", "nothing", "--data", str(data), "--json", str(place)]) == 2
    assert not place.parent.exists()


def test_bad_arguments_give_one_line(data, models, tmp_path, capfd):
    name = next(iter(models))
    (tmp_path / "kernel.npy").write_bytes(b"no array")
    for argv, message in [
        (["--model", "bicubic", "--data", data], "give the scale"),
        (["--model", "nothing", "--data", data], "no model nothing"),
        (["--model", name, "--data", data, "--scale", 3], "made for x2, not x3"),
        (["--model", name, "--data", data / "missing"], "no such folder"),
        (["--model", name, "--data", data, "--num-stages", 9], "stages 1 to 2"),
        (["--model", name, "--data", data, "--blur", tmp_path / "kernel.npy"], "not an .npy file"),
        (["--model", name, "--data", data, "--blur", tmp_path / "none.npy"], "No such file"),
        (["--model", "bicubic", "--data", data, "--scale", 2, "--per-stage"], "no stages to score"),
        (["--model", "bicubic", "--data", data, "--scale", 0], "at least 1"),
        (["--model", "bicubic", "--data", data, "--scale", 2, "--batch-size", 0], "--batch-size 0"),
        (["--model", "bicubic", "--data", data, "--scale", 2, "--json", tmp_path], "is a folder"),
        (["--model", "bicubic", "--data", data, "--scale", 2, "--plot", tmp_path / "a.txt"], ".svg"),
        (["--model", "bicubic", "--data", data, "--scale", 2, "--json", name], "ends with .json"),
        (["--model", "bicubic", "--data", data, "--scale", 2, "--markdown", tmp_path / "a.png"], "ends with .md or"),
        (["--model", "bicubic", "--data", data, "--scale", "two"], "--scale"),
        (["--model", "bicubic", "--data", data, tmp_path / data.name, "--scale", 2], "two folders are called"),
        (["--model", "bicubic", "--scale", 2, "--report", tmp_path / "r.html", "--data"], "no folder of test pictures"),
        (["--data", data], "--model"),
    ]:
        assert exit_code(evaluate.main, [*map(str, argv)]) == 2, argv
        said = capfd.readouterr()
        assert message in said.err
        assert said.err.count("\n") == 1
