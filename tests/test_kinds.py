"""Files of all kinds through `isr-jax upscale`: what comes out looks as what went in, and the docs' table says what."""

import re
from pathlib import Path

import numpy as np
import pytest
from colours import ADOBE_TO_SRGB, P3_TO_SRGB, as_seen, over_grey, srgb_of
from kinds import BEGIN, DOCUMENT, END, GREY, PIXELS, PLUGINS, kinds, refused, table, write_kinds

from isr_jax import upscale
from isr_jax.__main__ import exit_code
from isr_jax.config import UserError
from isr_jax.pictures.images import read_image, read_size

GREY_RGB = np.asarray(GREY.convert("RGB"))
GREY_4 = np.round(GREY_RGB / 17) * 17
LOOKS = {
    "png: grey, gamma 1.0": srgb_of(GREY_RGB, np.eye(3), 1),
    "png: RGB, gamma 1.0": srgb_of(PIXELS, np.eye(3), 1),
    "png: RGB, primaries of Display P3": srgb_of(PIXELS, P3_TO_SRGB, 2.2),
    "png: RGB, cICP of Display P3": srgb_of(PIXELS, P3_TO_SRGB, None),
    "png: grey, 4 bits, one of them transparent": over_grey(GREY_4, GREY_4 != 5 * 17),
    "jpg: RGB, Adobe RGB by EXIF": srgb_of(PIXELS, ADOBE_TO_SRGB, 563 / 256),
    "bmp: RGB, profile (Adobe RGB)": srgb_of(PIXELS, ADOBE_TO_SRGB, 563 / 256),
    "bmp: RGB, calibrated (Adobe RGB)": srgb_of(PIXELS, ADOBE_TO_SRGB, 563 / 256),
    "heic: RGB, Display P3 by its box": srgb_of(PIXELS, P3_TO_SRGB, None),
    "tif: RGB, floating point on 0..1": PIXELS.astype(float),
    "tif: grey, 12 bits": GREY_RGB,
    "tif: grey, 16 bits, white is 0": GREY_RGB,
}
"""How the files look whose looks Pillow does not know, by independent formulas."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("kinds")
    return folder, write_kinds(folder)


def run(folder: Path, out: Path, *options: str) -> int:
    argv = [str(folder), "-o", str(out), "--model", "bicubic", "--scale", "2", "--quality", "100", *options]
    return exit_code(upscale.main, argv)


def reduced(seen: np.ndarray) -> np.ndarray:
    height, width = seen.shape[0] // 2, seen.shape[1] // 2
    return seen.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("suffix", ["", "png", "tif", "webp", "avif", "jpg", "bmp"])
def test_what_comes_out_looks_as_what_went_in(inputs, tmp_path, capfd, suffix):
    folder, names = inputs
    code = run(folder, tmp_path, *(("--format", suffix) if suffix else ()))
    said = capfd.readouterr().err.splitlines()
    for name, kind in names.items():
        data, kind = (folder / name).read_bytes(), f"{name[3:]}: {kind}"
        results = list(tmp_path.glob(f"{name[:2]}.*"))
        if not results:  # transparent: named, and nothing else fails
            assert suffix in ("jpg", "bmp")
            assert code == 3
            assert any(f"/{name}" in line and "holds no transparency" in line for line in said), kind
            continue
        before = LOOKS[kind] if kind in LOOKS else as_seen(data)
        after = reduced(as_seen(results[0].read_bytes()))
        assert after.shape == before.shape, kind
        difference = np.abs(after - before)
        assert difference.mean() < 3, kind
        assert np.median(difference) < 2, kind
    remarks = [line for line in said if not re.match(r"\d+/\d+ ", line) and "transparency" not in line]
    remarks = [line for line in remarks if "failed; the others are done" not in line]
    if suffix in ("", "png"):
        assert remarks == []
        assert code == 0
    else:
        assert len(remarks) == 1
        assert "HDR (PQ)" in remarks[0]


@pytest.mark.skipif(not PLUGINS, reason="the table has the kinds of all plug-ins")
def test_the_table_of_the_documentation_is_true(inputs, tmp_path):
    folder, names = inputs
    assert run(folder, tmp_path) == 0
    text = DOCUMENT.read_text()
    written = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip().splitlines()
    assert written == table(names, tmp_path), "python tests/kinds.py writes it"


def test_what_is_refused_is_named():
    for kind, suffix, data in refused():
        with pytest.raises(UserError, match=r"^a\.\w+ has [^\n]*$") as caught:
            read_image(data, name=f"a.{suffix}")
        assert ("frames or pages" in str(caught.value)) == ("floating" not in kind)


def test_the_size_is_that_of_the_picture():
    for kind, suffix, data in kinds():
        assert read_size(data) == read_image(data).pixels.shape[:2], (suffix, kind)
