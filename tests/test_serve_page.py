"""The local page, used as a person would in a real browser."""

import io
import re
import zipfile

import numpy as np
import pytest
from browser import find_barriers, needs_chromium, open_browser
from local_server import local_server
from PIL import Image
from random_model import SEVERAL, random_model, save_random_model

from isr_jax.config import ModelConfig
from isr_jax.models.model_file import save_model

pytestmark = needs_chromium

WIDTHS = (390, 1280, 2560)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "any.safetensors", random_model(ModelConfig(scale=2, **SEVERAL)))
    return save_random_model(folder / "tiny.safetensors", scale=2), folder / "any.safetensors"


@pytest.fixture(scope="module")
def server(models):
    with local_server(*models, "--max-megabytes", "1", "--max-pixels", "200000") as (address, _):
        yield address


@pytest.fixture
def address(server):
    """Of a server without pictures."""
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"{server}/pictures", method="DELETE")).close()
    return server


@pytest.fixture
def folder(tmp_path):
    """Pictures, one of them in a folder within, and what is no picture."""
    rng = np.random.default_rng(0)
    (tmp_path / "trip" / "day").mkdir(parents=True)
    for name, size in (("a.png", (24, 16)), ("b.tif", (20, 20)), ("day/c.jpg", (16, 24))):
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(tmp_path / "trip" / name)
    (tmp_path / "trip" / "notes.txt").write_text("no picture")
    (tmp_path / "trip" / ".hidden.png").write_bytes(b"")
    return tmp_path / "trip"


def count(page, text):
    page.locator("#count", has_text=text).wait_for()


def facts(page, text):
    page.locator("#facts", has_text=text).wait_for()


def sideways(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_several_pictures_go_through_the_page(address, folder):
    with open_browser(viewport={"width": 1280, "height": 900}) as page:
        page.goto(address)
        page.locator("#file").set_input_files([folder / "a.png", folder / "b.tif"])
        count(page, "2 of 2 done")
        facts(page, "24 × 16 → 48 × 32 pixels in")  # the first one is looked at
        page.locator("#list .pick", has_text="b.tif").click()
        facts(page, "20 × 20 → 40 × 40")
        shown = page.locator("#comparison img")  # of a TIFF file, too
        assert shown.evaluate_all("(images) => Promise.all(images.map((image) => image.decode().then(() => true)))")
        box = page.locator(".compare").bounding_box()
        assert box["width"] == pytest.approx(box["height"], rel=0.01)  # not as wide as the page
        assert box["height"] <= 0.8 * 900 + 1
        page.locator("input.split").focus()
        page.keyboard.press("End")
        assert page.locator("#viewer").evaluate("(e) => e.style.getPropertyValue('--split')") == "100%"
        with page.expect_download() as download:
            page.locator("#download").click()
        assert download.value.suggested_filename == "b_tiny.png"
        with Image.open(download.value.path()) as result:
            assert result.size == (40, 40)
        with page.expect_download() as download:
            page.locator("#zip").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert archive.namelist() == ["a_tiny.png", "b_tiny.png"]
        # ---- another size, for this one and then for all; larger than the model can is said of the picture ----
        page.locator("#by").select_option("width")
        page.locator("#size").fill("30")
        page.keyboard.press("Enter")
        facts(page, "20 × 20 → 30 × 30")
        page.locator("#all").click()
        page.locator("#list", has_text="done, 30 × 20").wait_for()
        # ---- with the keyboard alone: removed, and the focus is on what comes next ----
        page.locator("#list button[aria-label='Remove a.png']").focus()
        page.keyboard.press("Enter")
        count(page, "1 of 1 done")
        assert page.evaluate("document.activeElement.textContent").startswith("b.tif")
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator("#remove-all").click()
        page.locator("#work").wait_for(state="hidden")


def test_folders_and_pasted_pictures_are_taken(address, folder):
    with open_browser(viewport={"width": 1280, "height": 900}) as page:
        page.goto(address)
        page.locator("#folder").set_input_files(folder)
        count(page, "3 of 3 done")
        names = [text.splitlines()[0] for text in page.locator("#list .pick").all_inner_texts()]
        assert sorted(names) == ["trip/a.png", "trip/b.tif", "trip/day/c.jpg"]
        assert page.locator("#refused").inner_text() == "No pictures by their names, left out: trip/notes.txt"
        # ---- dragged in from another program ----
        box = page.locator("#drop").bounding_box()
        place = {"x": box["x"] + 5, "y": box["y"] + 5}
        data = {"items": [], "files": [str(folder), str(folder / "a.png")], "dragOperationsMask": 1}
        session = page.context.new_cdp_session(page)
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})
        count(page, "7 of 7 done")
        paste = """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
          window.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        }"""
        page.evaluate(paste, list((folder / "a.png").read_bytes()))
        count(page, "8 of 8 done")


def test_what_is_believed_is_told_and_can_be_changed(address, models, tmp_path):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (24, 24, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    Image.fromarray(blocks).save(tmp_path / "photo.jpg", quality=75)
    with open_browser(viewport={"width": 390, "height": 844}) as page:
        page.goto(address)
        fields = [page.locator(f"#{name}") for name in ("blur", "blur-slider", "noise", "noise-slider")]
        page.locator("#file").set_input_files(tmp_path / "photo.jpg")
        facts(page, "192 × 192 → 384 × 384")
        assert re.match(r"Taken for: .*JPEG 75 \(4:2:0\), confidence", page.locator("#estimate").inner_text())
        assert not any(field.is_visible() for field in fields)
        with page.expect_request("**/enlarge?*") as asked:
            page.locator("#model").select_option(str(models[1]))
        assert "blur=" not in asked.value.url  # it is told what the server believes, its axes and all
        assert all(field.is_visible() for field in fields)
        assert 0 <= float(fields[0].input_value()) <= 100
        facts(page, "192 × 192 → 384 × 384")

        def type_in(name, text):
            page.locator(f"#{name}").fill(text)
            page.keyboard.press("Enter")

        for name, value in (("blur", "1.6"), ("noise", "2.5")):
            with page.expect_request("**/enlarge?*") as asked:
                type_in(name, value)
            assert asked.value.url.endswith(f"{name}={value}")
            assert float(page.locator(f"#{name}-slider").input_value()) == float(value)
        facts(page, "384 × 384 pixels in")
        page.locator("#noise-slider").focus()
        with page.expect_request("**/enlarge?*") as asked:
            page.keyboard.press("Home")
        assert asked.value.url.endswith("blur=1.6&noise=0")
        with page.expect_request("**/enlarge?*") as asked:
            page.locator("[data-resets=noise]").click()
        assert asked.value.url.endswith("blur=1.6")
        with page.expect_request("**/enlarge?*") as asked:  # an empty field is as estimated, too
            type_in("blur", "")
        assert "blur=" not in asked.value.url
        # ---- what is typed stays while the server tells of something else ----
        page.locator("#list span.done").wait_for()
        page.locator("#noise").fill("7")
        with page.expect_response(lambda answer: "pictures?known" in answer.url and answer.status == 200):
            number = page.locator("#list li").get_attribute("data-number")
            page.evaluate("(number) => fetch(`pictures/${number}/cancel`, { method: 'POST' })", number)
        page.wait_for_timeout(100)
        assert page.locator("#noise").input_value() == "7"
        for name, value, said in (("blur", "-1", "The blur is a width of 0 to 100"), ("noise", "300", "of 0 to 255")):
            type_in(name, value)
            page.locator("#message", has_text=said).wait_for()
            type_in(name, "1")
            page.locator("#message").wait_for(state="hidden")


def test_the_page_tells_what_is_wrong(models, tmp_path):
    (tmp_path / "text.png").write_bytes(b"no picture")
    (tmp_path / "large.png").write_bytes(bytes(2**20 + 1))
    with (
        local_server(models[0], "--max-megabytes", "1") as (address, process),
        open_browser(viewport={"width": 390, "height": 844}, expect=["422", "ERR_CONNECTION"]) as page,
    ):
        page.goto(address)
        page.locator("#file").set_input_files([tmp_path / "text.png", tmp_path / "large.png"])
        for line in ("text.png: The picture is not a picture", "large.png: The file is larger than 1 MiB."):
            page.locator("#refused li", has_text=line).wait_for()
        assert not page.locator("#work").is_visible()
        assert sideways(page) <= 0
        process.terminate()
        process.wait(timeout=30)
        page.locator("#message", has_text="The server does not answer").wait_for()


def test_a_second_tab_and_a_killed_browser_lose_nothing(address, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    for k in range(3):
        Image.fromarray(pixels // (k + 1)).save(tmp_path / f"{k}.png")
    with open_browser() as page:
        page.goto(address)
        page.locator("#file").set_input_files([tmp_path / f"{k}.png" for k in range(3)])
        page.locator("#list li").nth(2).wait_for()
        other = page.context.browser.new_page()
        other.goto(address)
        other.locator("#list li").nth(2).wait_for()
    with open_browser() as page:  # the first one is gone in the middle of the work
        page.goto(address)
        count(page, "3 of 3 done")
        page.locator("#list .pick", has_text="0.png").click()
        facts(page, "400 × 400 → 800 × 800")
        page.locator("#list button", has_text="Remove").first.click()
        count(page, "2 of 2 done")


def test_all_can_be_cancelled(address, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    files = [{"name": f"{k}.png", "mimeType": "image/png", "buffer": file.getvalue()} for k in range(8)]
    with open_browser() as page:
        page.goto(address)
        page.locator("#file").set_input_files(files)
        page.locator("#list li").first.wait_for()
        page.locator("#cancel-all").click()
        page.locator("#list span.cancelled").first.wait_for()
        page.locator("#cancel-all").wait_for(state="hidden")
        states = page.locator("#list span").evaluate_all("(spans) => spans.map((span) => span.className)")
        assert set(states) <= {"cancelled", "done"}
        assert len(states) < 9


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_meets_a_barrier(address, models, folder, scheme):
    with open_browser(viewport={"width": 1280, "height": 900}, color_scheme=scheme, expect=["422"]) as page:
        page.goto(address)
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (min(map(int, re.findall(r"\d+", background))) > 200) == (scheme == "light")
        assert find_barriers(page) == []
        page.locator("#model").select_option(str(models[1]))
        page.locator("#file").set_input_files([folder / "a.png", folder / "b.tif", folder / "notes.txt"])
        count(page, "2 of 2 done")
        page.locator("#refused li").wait_for()
        page.locator("#noise").fill("-1")
        page.keyboard.press("Enter")
        page.locator("#message", has_text="The noise is").wait_for()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert find_barriers(page) == []
            assert sideways(page) <= 0
        # ---- the keyboard reaches everything, in the order in which it is read ----
        page.locator("h1").click()
        reached = []
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
            if reached[-1] == "split":
                break
        wanted = ["theme", "model", "by", "size", "strength", "choose", "choose-folder", "zip", "pick", "blur", "noise"]
        assert [name for name in reached if name in [*wanted, "download", "split"]] == [
            *wanted[:9], "pick", *wanted[9:], "download", "split",
        ]  # fmt: skip
