"""The page of an evaluation, used as a person would in a real browser."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import find_barriers, needs_chromium, open_browser
from PIL import Image
from random_model import save_random_model

from isr_jax.__main__ import exit_code
from isr_jax.evaluate import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    (folder / "Set" / "HR").mkdir(parents=True)
    for name, contrast in (("a<b>&", 10), ("calm", 2), ("wild", 90)):
        pixels = np.clip(128 + contrast * rng.standard_normal((48, 64, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "Set" / "HR" / f"{name}.png")
    model = save_random_model(folder / "tiny.safetensors", scale=2)
    path = folder / "report.html"
    arguments = ["--model", str(model), "--data", str(folder / "Set"), "--scale", "2", "--report", str(path)]
    assert exit_code(main, arguments) == 0
    return path


def test_the_page_is_self_contained_and_lossless(page_file):
    text = page_file.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"']?https?:", text)
    assert "{{" not in text
    data = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.S)[1])
    assert data["labels"] == ["LR", "bicubic", "tiny", "truth"]
    assert [picture["name"] for picture in data["pictures"]] == ["a<b>&", "calm", "wild"]
    import base64
    import io

    truth = Image.open(io.BytesIO(base64.b64decode(data["pictures"][2]["images"]["truth"])))
    np.testing.assert_array_equal(truth, Image.open(page_file.parent / "Set" / "HR" / "wild.png"))


@needs_chromium
def test_slider_zoom_and_sorting_work(page_file):
    with open_browser(viewport={"width": 1200, "height": 900}) as page:
        page.goto(page_file.as_uri())
        assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        # ---- the line follows the mouse, and the keys of the slider ----
        clip = "getComputedStyle(document.querySelector('.clip')).clipPath"
        box = page.locator(".compare").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20, steps=4)
        page.mouse.up()
        assert "75%" in page.evaluate(clip)
        page.locator("input.split").focus()
        page.keyboard.press("Home")
        assert "100%" in page.evaluate(clip)
        # ---- all panes zoom together ----
        transform = "[...document.querySelectorAll('.pane img')].map((i) => getComputedStyle(i).transform)"
        page.locator(".grid .pane").first.dblclick()
        scales = {t.split(",")[0] for t in page.evaluate(transform)}
        assert scales == {"matrix(4"}
        page.locator("#viewer").focus()
        page.keyboard.press("0")
        assert {t.split(",")[0] for t in page.evaluate(transform)} == {"matrix(1"}
        # ---- sorting by PSNR, with the keyboard ----
        column = page.locator("#pictures th button", has_text="bicubic").first
        column.focus()
        for expected in ("descending", "ascending"):
            page.keyboard.press("Enter")
            assert page.locator("#pictures th[aria-sort]").get_attribute("aria-sort") == expected
            values = [float(v) for v in page.locator("#pictures tbody td:nth-child(3)").all_inner_texts()]
            assert values == sorted(values, reverse=expected == "descending")
        # ---- choosing, by a click and by a key ----
        page.locator("#pictures tbody tr").first.click()
        assert page.locator("#name").inner_text().startswith("wild")
        page.keyboard.press("j")
        assert page.locator("#name").inner_text().startswith("a<b>&")
        page.locator("#errors").check()
        assert page.locator(".error").count() == 2
        # ---- dark ----
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        page.locator("#theme").click()
        assert page.evaluate(background) != light


@needs_chromium
def test_a_phone_needs_no_sideways_scrolling(page_file):
    with open_browser(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True) as page:
        page.goto(page_file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_another_suffix_is_refused(capfd):
    assert exit_code(main, ["--model", "bicubic", "--data", ".", "--report", "x.pdf"]) == 2
    assert ".html" in capfd.readouterr().err


def test_two_models_of_one_name_are_refused(tmp_path, capfd):
    paths = [str(save_random_model(tmp_path / name / "tiny.safetensors", scale=2)) for name in "ab"]
    assert exit_code(main, ["--model", *paths, "--data", str(tmp_path)]) == 2
    assert "two models are called tiny" in capfd.readouterr().err


def test_the_command_starts_without_jax():
    code = "import sys, isr_jax.evaluate; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_meets_a_barrier(page_file, scheme):
    with open_browser(viewport={"width": 1280, "height": 900}, color_scheme=scheme) as page:
        page.goto(page_file.as_uri())
        assert find_barriers(page) == []
