"""The server behind the local page, as a real process: what it takes, does, keeps and refuses."""

import dataclasses
import errno
import io
import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor

import anyio
import numpy as np
import pytest
from local_server import local_server
from PIL import Image
from random_model import SEVERAL, random_model, save_random_model
from starlette.requests import Request

from isr_jax.__main__ import exit_code
from isr_jax.config import ModelConfig
from isr_jax.inference.estimate import Estimate, estimate_degradation
from isr_jax.models.model_file import save_model, shipped_models
from isr_jax.pictures.images import read_image
from isr_jax.serve import _explain, main
from isr_jax.serve_models import AUTOMATIC, Models
from isr_jax.serve_queue import PictureQueue, clean_name


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
    with local_server(model, any_model, "--max-megabytes", "1", "--max-pixels", "10000") as (address, _):
        yield address


def picture(width=24, height=16, mode="RGB", **options):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), np.uint8)
    Image.fromarray(noise.squeeze(), mode).save(file, options.pop("format", "PNG"), **options)
    return file.getvalue()


def request(method, url, body=None, **headers):
    """Returns the status and the body of the answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def add(address, body, model, query="", name="photo.png", **headers):
    headers = {"Content-Type": "application/octet-stream", **headers}
    return request("POST", f"{address}/pictures?model={model}&name={name}{query}", body, **headers)


def wait(address, number):
    """Returns what the server says of a picture once nothing is to be done with it."""
    for _ in range(600):
        listed = json.loads(request("GET", f"{address}/pictures")[1])["pictures"]
        found = next(each for each in listed if each["number"] == number)
        if found["state"] not in ("waiting", "working"):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def until(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within 10 s")


def enlarge(address, body, model, query="", **options):
    """Adds a picture; returns what the server says of it when it is done, and the result."""
    status, answer = add(address, body, model, query, **options)
    assert status == 200, answer
    found = wait(address, json.loads(answer)["number"])
    assert (found["state"], found["error"]) == ("done", "")
    return found, Image.open(io.BytesIO(request("GET", f"{address}/pictures/{found['number']}/result")[1]))


def test_it_enlarges_as_the_command_does(address, model, tmp_path):
    from isr_jax.upscale import main as upscale

    found, result = enlarge(address, picture(mode="RGBA"), model)
    (tmp_path / "in.png").write_bytes(picture(mode="RGBA"))
    assert exit_code(upscale, [str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--model", str(model)]) == 0
    assert (result.size, result.mode) == ((48, 32), "RGBA")
    assert (found["result"]["width"], found["result"]["name"]) == (48, "photo_tiny.png")
    np.testing.assert_array_equal(result, Image.open(tmp_path / "out.png"))


@pytest.mark.parametrize(
    ("query", "options", "size"),
    [
        ("&scale=3&blur=1.6&noise=2.5", ["--scale", "3", "--blur", "1.6", "--noise", "2.5"], (72, 48)),
        ("&scale=&blur=&noise=&strength=0.5", ["--strength", "0.5"], (48, 32)),
        ("&width=60&noise=2", ["--width", "60", "--noise", "2"], (60, 40)),
        ("&longest=30", ["--longest", "30"], (30, 20)),
    ],
)
def test_what_is_wanted_and_known_is_that_of_the_command(address, any_model, tmp_path, query, options, size):
    from isr_jax.upscale import main as upscale

    _, result = enlarge(address, picture(), any_model, query)
    (tmp_path / "in.png").write_bytes(picture())
    files = [str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--model", str(any_model)]
    assert exit_code(upscale, [*files, *options]) == 0
    assert result.size == size
    expected = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    np.testing.assert_allclose(np.asarray(result).astype(int), expected, atol=1)


def test_a_picture_is_inspected_and_that_is_told_in_pixels_of_each_scale(address, any_model):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (12, 12, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    file = io.BytesIO()
    Image.fromarray(blocks).save(file, "JPEG", quality=75, subsampling="4:2:0")
    found, _ = enlarge(address, file.getvalue(), any_model)
    assert set(found["estimate"]["words"]) == {"2", "3"}
    assert found["estimate"]["words"]["2"].endswith("JPEG 75 (4:2:0)")
    assert 0 <= found["estimate"]["confidence"] <= 1
    small, _ = enlarge(address, picture(8, 8), any_model)
    assert small["estimate"]["words"]["2"].startswith("blur: cannot tell")
    assert "too small" in small["estimate"]["remarks"][0]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("&scale=4", "The scale is '4'; .*any.safetensors takes a factor of up to 3."),
        ("&scale=nan", "The scale is 'nan'; .* takes a factor of up to 3."),
        ("&scale=2&width=30", "Scale and width exclude each other"),
        ("&width=1e9", "The width is '1e9'; .* takes a whole number of pixels, 1 to 65535"),
        ("&height=30.5", "The height is '30.5'"),
        ("&strength=2", "The strength is '2'; .* takes a share of 0 to 1"),
        ("&blur=-1", "The blur is '-1'; .* takes a width of 0 to 100 pixels"),
        ("&blur=1e9", "The blur is '1e9'"),
        ("&blur=/etc/passwd", "The blur is '/etc/passwd'; .* takes a width"),
        ("&noise=nan", "The noise is 'nan'; .* takes a level of 0 to 255"),
        ("&noise=300", "The noise is '300'"),
    ],
)
def test_what_a_model_does_not_take_is_one_line(address, model, any_model, query, said):
    status, body = add(address, picture(), any_model, query)
    assert (status, json.loads(body).keys()) == (422, {"error"})
    assert re.match(said, json.loads(body)["error"])
    if "blur" in query or "noise" in query:
        answer = json.loads(add(address, picture(), model, query)[1])["error"]
        assert answer.endswith("tiny.safetensors takes none.")


def test_what_a_picture_is_too_small_for_is_said_of_it(address, model):
    number = json.loads(add(address, picture(), model, "&width=500")[1])["number"]
    found = wait(address, number)
    assert found["state"] == "failed"
    assert found["error"].endswith("enlarges 24 x 16 to 48 x 32 pixels at most: ask for less")
    status, _ = request("POST", f"{address}/pictures/{number}/enlarge?model={model}&width=48")
    assert (status, wait(address, number)["state"]) == (200, "done")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 422, "empty"),
        (b"no picture", 422, "not a picture"),
        (picture()[:200], 422, "damaged"),
        (picture(101, 100), 422, "more than the limit of 10000: raise it (--max-pixels)"),
        (bytes(2**20 + 1), 413, "larger than 1 MiB"),
    ],
)
def test_what_cannot_be_enlarged_is_explained_and_not_kept(address, model, body, status, said):
    before = request("GET", f"{address}/pictures")[1]
    answer = add(address, body, model)
    assert answer[0] == status
    assert said in json.loads(answer[1])["error"]
    assert request("GET", f"{address}/pictures")[1] == before


def test_strangers_are_refused(address, model):
    assert add(address, picture(), model, Host="evil.example")[0] == 400
    assert add(address, picture(), model, **{"Content-Type": "text/plain"})[0] == 415
    assert add(address, picture(), "/etc/passwd")[0] == 404
    port = address.rpartition(":")[2]
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}", "http://127.0.0.1:1"):
        assert add(address, picture(), model, Origin=origin)[0] == 403
        assert request("DELETE", f"{address}/pictures", Origin=origin)[0] == 403
    for site in ("cross-site", "same-site"):  # a picture of ours in another page; a page of another port of ours
        assert request("GET", f"{address}/pictures", **{"Sec-Fetch-Site": site})[0] == 403
        assert request("GET", f"{address}/", **{"Sec-Fetch-Site": site})[0] == 200  # a link to it
    assert add(address, picture(), model, Origin=address)[0] == 200
    assert request("GET", f"{address}/pictures/9999/result")[0] == 404


def test_several_at_once_all_get_an_answer(address, model):
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: enlarge(address, picture(), model)[1].tobytes(), range(6)))
    assert len(set(results)) == 1


def test_results_come_as_one_zip_file_whatever_their_names(address, model):
    assert request("DELETE", f"{address}/pictures")[0] == 200
    names = ["a/photo.png", "a/photo.jpg", "../../etc/b.png", "a/PHOTO.bmp"]
    results = [enlarge(address, picture(20 + 2 * k), model, name=name)[1] for k, name in enumerate(names)]
    add(address, picture(), model, "&width=500")  # fails
    with zipfile.ZipFile(io.BytesIO(request("GET", f"{address}/results.zip")[1])) as archive:
        assert archive.testzip() is None
        wanted = ["a/photo_tiny.png", "a/photo_tiny (2).png", "etc/b_tiny.png", "a/PHOTO_tiny (3).png"]
        assert archive.namelist() == wanted
        for name, result in zip(wanted, results, strict=True):
            np.testing.assert_array_equal(Image.open(archive.open(name)), result)


def test_names_lead_nowhere():
    assert clean_name("/etc/passwd") == "etc/passwd"
    assert clean_name("C:\\a\\..\\b.png") == "C_/a/b.png"
    assert clean_name("..") == clean_name("") == "picture"
    assert clean_name("a\n\x7f.png") == "a__.png"
    long = clean_name("漢" * 200 + ".jpg")
    assert len(long.encode()) <= 150  # a file system takes 255 bytes, and the result's ending comes behind
    assert long.endswith("漢.jpg")


def test_a_full_disk_is_explained():
    answer = _explain(Request({"type": "http"}), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert answer.status_code == 507
    assert json.loads(answer.body) == {"error": "The server cannot keep the picture: No space left on device."}


def test_nothing_is_done_or_kept_that_is_not_wanted(model, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    big = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(big).save(file, "PNG")
    with local_server(model, "--keep-megabytes", "5") as (address, process):
        # ---- an upload that is broken off leaves nothing ----
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as stream:
            head = f"POST /pictures?model={model} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            stream.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\nbegun".encode())
            until(lambda: list(tmp_path.glob("isr-jax-serve-*/*")))
        until(lambda: not list(tmp_path.glob("isr-jax-serve-*/*")))
        # ---- what is being added when all are cancelled is not taken ----
        sent = picture()
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as stream:
            head = f"POST /pictures?model={model} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(sent)}\r\n"
            stream.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + sent[:-1])
            until(lambda: list(tmp_path.glob("isr-jax-serve-*/*")))
            assert request("POST", f"{address}/pictures/cancel")[0] == 200
            stream.sendall(sent[-1:])
            assert b" 422 " in stream.recv(100)
        assert json.loads(request("GET", f"{address}/pictures")[1])["pictures"] == []
        # ---- what is cancelled or removed is not done ----
        numbers = [json.loads(add(address, file.getvalue(), model)[1])["number"]]
        numbers += [json.loads(add(address, picture(), model)[1])["number"] for _ in range(4)]
        for number in (numbers[0], numbers[1]):
            assert request("POST", f"{address}/pictures/{number}/cancel")[0] == 200
        assert request("DELETE", f"{address}/pictures/{numbers[2]}")[0] == 200
        assert request("POST", f"{address}/pictures/{numbers[4]}/enlarge?model={model}&width=30")[0] == 200
        states = [wait(address, number)["state"] for number in (numbers[0], numbers[1], *numbers[3:])]
        assert states == ["cancelled", "cancelled", "done", "done"]
        assert wait(address, numbers[0])["result"] is None
        listed = json.loads(request("GET", f"{address}/pictures")[1])
        assert numbers[2] not in [each["number"] for each in listed["pictures"]]
        assert request("GET", f"{address}/pictures?known={listed['revision']}") == (204, b"")
        # ---- a number that is none, and a picture whose file another program has removed ----
        assert request("GET", f"{address}/pictures/{'9' * 5000}/before")[0] == 404
        [stored] = tmp_path.glob(f"isr-jax-serve-*/{numbers[3]}")
        kept = stored.read_bytes()
        stored.unlink()
        assert request("GET", f"{address}/pictures/{numbers[3]}/before")[0] == 404
        stored.write_bytes(kept)
        # ---- what does not fit is refused, and there is room again when something is removed ----
        assert add(address, file.getvalue(), model)[0] == 422
        assert "fill the 5 MiB that the server keeps" in json.loads(add(address, file.getvalue(), model)[1])["error"]
        assert request("DELETE", f"{address}/pictures/{numbers[0]}")[0] == 200
        assert add(address, file.getvalue(), model)[0] == 200
        # ---- it ends in the middle of the work, and leaves nothing behind ----
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
    assert not list(tmp_path.glob("isr-jax-serve-*"))


def test_a_picture_says_how_far_it_is_and_is_let_be_between_windows(tmp_path):
    (tmp_path / "queue").mkdir()
    looks, told = iter([True, False]), []

    async def parts():
        yield picture()

    async def use():
        queue = PictureQueue(tmp_path / "queue", max_bytes=10**6, max_total_bytes=10**7)
        entry = await queue.add("a.png", parts(), lambda file: ((16, 24), estimate_degradation(file)))

        def enlarge(file, estimate, tell):
            for done in range(1, 4):
                tell(done, 4)
                told.append((done, queue.snapshot()[0]["share"]))
                if done == 2 and next(looks):
                    anyio.from_thread.run_sync(queue.withdraw, entry)
            return read_image(file), "test"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.work)
            for state in ("cancelled", "done"):
                before = queue.revision
                queue.ask(entry, {}, enlarge)
                while entry.state != state or queue.revision == before:
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        assert entry.result
        assert entry.result.label == "test"

    anyio.run(use)
    assert told == [(1, 0.25), (2, 0.5), (1, 0.25), (2, 0.5), (3, 0.75)]


def test_what_a_picture_needs_is_chosen_for_it(tmp_path):
    """As the command does: clean, told a blur, noisy, made smaller."""
    models = Models((AUTOMATIC, *shipped_models()))
    file = tmp_path / "in.png"
    smooth = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)).resize((32, 24)))
    Image.fromarray(smooth).save(file)
    clean = Estimate(
        scale=4, blur=(0.1, 0.1, 0.0), blur_std=0.1, noise_std=0.5, jpeg=None, enlarged=None, confidence=0.9
    )
    noisy = dataclasses.replace(clean, noise_std=10.0)
    for estimate, asked, label, size in [
        (clean, {"scale": "2.5"}, "isr-lite-x3", (60, 80)),
        (clean, {"scale": "2", "blur": "0.9"}, "isr-any", (48, 64)),
        (noisy, {"width": "64"}, "isr-any", (48, 64)),
        (noisy, {"scale": "0.5"}, "isr-lite-x2", (12, 16)),
    ]:
        result, made_by = models.enlarge(AUTOMATIC, models.choices[AUTOMATIC].read(asked), file, estimate)
        assert (made_by, result.pixels.shape[:2]) == (label, size)


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
