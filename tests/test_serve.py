"""The local page, served by a real process and used in a real browser."""

import io
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from browser import needs_chromium, open_browser
from PIL import Image
from random_model import SEVERAL, random_model, save_random_model

from isr_jax.__main__ import exit_code
from isr_jax.config import ModelConfig
from isr_jax.models.model_file import save_model
from isr_jax.serve import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_random_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", scale=2)


@pytest.fixture(scope="module")
def any_model(model):
    path = model.parent / "any.safetensors"
    save_model(path, random_model(ModelConfig(scale=2, **SEVERAL)))
    return path


@pytest.fixture(scope="module")
def address(model, any_model):
    command = [sys.executable, "-m", "isr_jax.serve", "--model", str(model), str(any_model), "--port", "0"]
    command += ["--max-megabytes", "1", "--max-pixels", "10000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--max-pixels", "10000"], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        found = re.match(r"(http://127\.0\.0\.1:\d+)/", process.stdout.readline())
        assert found
        yield found[1]
        process.terminate()
        assert process.wait(timeout=30) in (0, -15)


def picture(width=24, height=16, mode="RGB"):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), np.uint8)
    Image.fromarray(noise.squeeze(), mode).save(file, "PNG")
    return file.getvalue()


def post(address, body, model, query="", **headers):
    """Returns the status and the body of the answer."""
    headers = {"Content-Type": "application/octet-stream", **headers}
    request = urllib.request.Request(f"{address}/upscale?model={model}{query}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_it_enlarges_as_the_command_does(address, model, tmp_path):
    from isr_jax.upscale import main as upscale

    status, body = post(address, picture(mode="RGBA"), model)
    assert status == 200
    (tmp_path / "in.png").write_bytes(picture(mode="RGBA"))
    assert exit_code(upscale, [str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--model", str(model)]) == 0
    result = Image.open(io.BytesIO(body))
    assert (result.size, result.mode) == ((48, 32), "RGBA")
    np.testing.assert_array_equal(result, Image.open(tmp_path / "out.png"))


def test_scale_blur_and_noise_are_those_of_the_command(address, any_model, tmp_path):
    from isr_jax.upscale import main as upscale

    (tmp_path / "in.png").write_bytes(picture())
    files = [str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--model", str(any_model)]
    results = []
    for query, options in (
        ("&scale=3&blur=1.6&noise=2.5", ["--scale", "3", "--blur", "1.6", "--noise", "2.5"]),
        ("&scale=&blur=&noise=", []),
    ):
        status, body = post(address, picture(), any_model, query)
        assert status == 200
        assert exit_code(upscale, [*files, *options]) == 0
        result = np.asarray(Image.open(io.BytesIO(body)))
        np.testing.assert_allclose(result.astype(int), np.asarray(Image.open(tmp_path / "out.png")), atol=1)
        results.append(result.shape)
    assert results == [(48, 72, 3), (32, 48, 3)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("&scale=4", "The scale is '4'; .*any.safetensors takes 2 or 3."),
        ("&scale=nan", "The scale is 'nan'; .* takes 2 or 3."),
        ("&blur=-1", "The blur is '-1'; .* takes a width of 0 to 100 pixels"),
        ("&blur=1e9", "The blur is '1e9'"),
        ("&blur=/etc/passwd", "The blur is '/etc/passwd'; .* takes a width"),
        ("&blur=1.6,0.8,30", "The blur is '1.6,0.8,30'"),
        ("&noise=nan", "The noise is 'nan'; .* takes a level of 0 to 255"),
        ("&noise=300", "The noise is '300'"),
    ],
)
def test_what_a_model_does_not_take_is_one_line(address, model, any_model, query, said):
    status, body = post(address, picture(), any_model, query)
    assert (status, json.loads(body).keys()) == (422, {"error"})
    assert re.match(said, json.loads(body)["error"])
    if "scale" not in query:
        answer = json.loads(post(address, picture(), model, query)[1])["error"]
        assert answer.endswith("tiny.safetensors takes none.")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 422, "empty"),
        (b"no picture", 422, "not a picture"),
        (picture()[:200], 422, "damaged"),
        (picture(101, 100), 422, "pixels"),
        (bytes(2**20 + 1), 413, "larger than 1 MiB"),
    ],
)
def test_what_cannot_be_enlarged_is_explained(address, model, body, status, said):
    answer = post(address, body, model)
    assert answer[0] == status
    assert said in json.loads(answer[1])["error"]


def test_strangers_are_refused(address, model):
    assert post(address, picture(), model, Host="evil.example")[0] == 400
    assert post(address, picture(), model, **{"Content-Type": "text/plain"})[0] == 415
    assert post(address, picture(), "/etc/passwd")[0] == 404


def test_several_at_once_all_get_an_answer(address, model):
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(address, picture(), model), range(6)))
    assert {status for status, _ in answers} == {200}
    assert len({body for _, body in answers}) == 1


@needs_chromium
def test_a_picture_goes_through_the_page(address, tmp_path):
    (tmp_path / "photo.png").write_bytes(picture())
    (tmp_path / "text.png").write_bytes(b"no picture")
    with open_browser(viewport={"width": 1000, "height": 800}) as page:
        page.goto(address)
        page.locator("#file").set_input_files(tmp_path / "photo.png")
        page.locator("#viewer").wait_for(state="visible")
        assert "24 × 16 → 48 × 32" in page.locator("#message").inner_text()
        page.locator("input.split").focus()
        page.keyboard.press("End")
        assert page.locator("#viewer").evaluate("(e) => e.style.getPropertyValue('--split')") == "100%"
        with page.expect_download() as download:
            page.locator("#download").click()
        assert download.value.suggested_filename.startswith("photo_")
        with Image.open(download.value.path()) as result:
            assert result.size == (48, 32)


@needs_chromium
def test_the_page_tells_what_is_wrong(address, tmp_path):
    (tmp_path / "text.png").write_bytes(b"no picture")
    (tmp_path / "large.png").write_bytes(bytes(2**20 + 1))
    with open_browser(viewport={"width": 360, "height": 740}, expect=["422"]) as page:
        page.goto(address)
        for name, said in (("text.png", "not a picture"), ("large.png", "larger than 1 MiB")):
            page.locator("#file").set_input_files(tmp_path / name)
            page.locator("#message.error", has_text=said).wait_for()
        assert not page.locator("#viewer").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


@needs_chromium
def test_the_page_asks_what_the_model_takes(address, any_model, tmp_path):
    (tmp_path / "photo.png").write_bytes(picture())
    with open_browser(viewport={"width": 360, "height": 740}) as page:
        page.goto(address)
        fields = [page.locator(f"#{name}") for name in ("scale", "blur", "noise")]
        assert not any(field.is_visible() for field in [*fields, page.locator("#hint")])
        page.locator("#model").select_option(str(any_model))
        assert all(field.is_visible() for field in [*fields, page.locator("#hint")])
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.locator("#scale").select_option("3")

        def type_in(name, text):
            page.locator(f"#{name}").press("Control+A")
            page.keyboard.press("Delete")
            page.keyboard.type(text)
            page.keyboard.press("Enter")

        type_in("blur", "1.6")
        type_in("noise", "2.5")
        with page.expect_request("**/upscale?*") as asked:
            page.locator("#file").set_input_files(tmp_path / "photo.png")
        assert asked.value.url.endswith("&scale=3&blur=1.6&noise=2.5")
        page.locator("#message", has_text="24 × 16 → 72 × 48").wait_for()
        with page.expect_request("**/upscale?*") as asked:  # another value enlarges anew, an empty one is not told
            type_in("noise", "")
        assert asked.value.url.endswith("&scale=3&blur=1.6")
        for name, value, said in (("blur", "-1", "The blur is a width of 0 to 100"), ("noise", "300", "of 0 to 255")):
            type_in(name, value)
            page.locator("#message.error", has_text=said).wait_for()
            type_in(name, "1")
            page.locator("#message", has_text="72 × 48").wait_for()


def test_a_port_in_use_and_no_model_are_explained(address, model, capfd):
    port = address.rpartition(":")[2]
    assert exit_code(main, ["--model", str(model), "--port", port]) == 1
    assert "--port" in capfd.readouterr().err
    assert exit_code(main, ["--model", "nothing"]) == 2
    assert exit_code(main, ["--model", str(model), "--port", "70000"]) == 2
    capfd.readouterr()
    (model.parent / "none.safetensors").write_bytes(b"no model")
    assert exit_code(main, ["--model", str(model.parent / "none.safetensors")]) == 1
    assert "is not a model file" in capfd.readouterr().err
