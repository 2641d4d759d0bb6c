"""An ONNX file in a browser: the page of docs/how-to/onnx.md, as it stands there, with onnxruntime-web."""

import functools
import http.server
import re
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from browser import needs_chromium, open_browser
from PIL import Image

from isr_jax.inference.upscaler import load
from isr_jax.models.model_file import load_model
from isr_jax.models.onnx_file import export_onnx

pytestmark = needs_chromium

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "onnx.md"
RUNTIME = "onnxruntime-web@1.30.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the page needs beside it: the runtime from npm, and a model."""
    folder = tmp_path_factory.mktemp("site")
    if shutil.which("npm") is None:
        pytest.skip(f"no npm on this computer to fetch {RUNTIME}")
    fetched = subprocess.run(["npm", "pack", "--silent", RUNTIME], cwd=folder, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"npm cannot fetch {RUNTIME}: {fetched.stderr.strip()[:200]}")
    with tarfile.open(folder / fetched.stdout.strip()) as package:
        for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
            with package.extractfile(f"package/dist/{name}") as file:  # pyright: ignore[reportOptionalContextManager]
                (folder / name).write_bytes(file.read())
    [page] = re.findall(r"```html\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "index.html").write_text(f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{page}")
    [model] = re.findall(r'"(isr-[^"]*)\.onnx"', page)
    (folder / f"{model}.onnx").write_bytes(export_onnx(load_model(model), layout="nhwc", input="uint8"))
    return folder


@pytest.fixture(scope="module")
def address(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_the_page_of_the_docs_enlarges_as_the_model_does(address, tmp_path):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((48, 36), Image.Resampling.BICUBIC)
    small.save(tmp_path / "small.png")
    with open_browser() as page:
        page.goto(address)
        page.locator("input").set_input_files(tmp_path / "small.png")
        page.wait_for_function("document.querySelector('canvas').width == 192")
        read = "(c) => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
        rgba = np.array(page.locator("canvas").evaluate(read), np.uint8).reshape(144, 192, 4)
    expected = load("isr-lite-x4").upscale(np.asarray(small))
    assert (rgba[..., 3] == 255).all()
    different = np.abs(rgba[..., :3].astype(int) - expected)
    assert different.max() <= 1  # where a value falls on a half
    assert different.mean() < 1e-3
