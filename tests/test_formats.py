"""isr_jax.pictures.formats: what is read by which reader, and how large a file may be."""

import builtins
import io
from pathlib import Path

import numpy as np
import pytest
from picture_cases import PICTURE, PIXELS, saved, tiff_pages
from PIL import Image

from isr_jax.config import UserError
from isr_jax.pictures.encoding import encode_image
from isr_jax.pictures.formats import check_size, jxl_size
from isr_jax.pictures.images import list_images, list_left_out, read_image, read_size
from isr_jax.pictures.picture import Picture


def test_heic_and_jpeg_xl_without_their_readers(monkeypatch):
    ordinary = builtins.__import__

    def missing(name, *of):
        if name in ("pillow_heif", "pillow_jxl"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return ordinary(name, *of)

    monkeypatch.setattr("importlib.import_module", missing)
    heads = {"a.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a.jxl": b"\xff\x0a" + b"\0" * 20}
    for (name, data), kind in zip(heads.items(), ("HEIC", "JPEG XL"), strict=True):
        with pytest.raises(UserError, match=rf"^{name} is {kind}; to read it: pip install 'isr_jax\[formats\]'$"):
            read_image(data, name=name)


@pytest.mark.parametrize("size", [(1, 1), (8, 16), (256, 256), (300, 200), (999, 333), (70, 5000), (4, 3), (16, 9)])
@pytest.mark.parametrize("container", [False, True])
def test_the_size_of_a_jpeg_xl_file_is_known_before_it_is_decoded(size, container):
    pytest.importorskip("pillow_jxl")
    data = saved(Image.new("RGB", size), "JXL", effort=1, use_container=container)
    assert jxl_size(data) == (size[1], size[0])
    with pytest.raises(UserError, match="more than the limit of 0"):
        read_image(data, max_pixels=0)


def test_heic_is_turned_once():
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x8298: "someone"})
    data = saved(PICTURE, "HEIF", exif=exif.tobytes(), quality=95, chroma=444)
    picture = read_image(data)
    assert picture.pixels.shape == (36, 24, 3)
    assert read_size(data) == (36, 24)
    assert b"someone" in picture.metadata.exif
    assert np.abs(picture.pixels.astype(int) - np.rot90(PIXELS, -1)).mean() < 4


@pytest.mark.parametrize(
    ("image_format", "height", "width", "limit"),
    [
        ("WEBP", 1, 16384, "16383 pixels a side"),
        ("JPEG", 65501, 1, "65500 pixels a side"),
        ("AVIF", 1, 32769, "32768 pixels a side"),
        ("AVIF", 16385, 16385, "268435456 pixels"),
        ("BMP", 40000, 40000, "4 GiB"),
        ("TIFF", 40000, 40000, "4 GiB"),
    ],
)
def test_a_result_that_its_format_cannot_hold_is_refused(image_format, height, width, limit):
    with pytest.raises(UserError, match=f"{width}x{height} .* {image_format}, which holds {limit}: write PNG"):
        check_size(image_format, height, width)
    check_size("PNG", height, width)


@pytest.mark.parametrize(("image_format", "side"), [("WEBP", 16383), ("JPEG", 65500), ("AVIF", 32768)])
def test_the_limits_themselves_are_written_and_read(image_format, side):
    data = encode_image(Picture(pixels=np.zeros((2, side, 3), np.uint8)), image_format)
    assert read_image(data).pixels.shape == (2, side, 3)


def test_folders_list_what_is_read_and_what_is_left_out(tmp_path):
    for name in ("a.HEIC", "b.jxl", "c.jfif", "d.avif", "e.psd", "f.CR2", "g.txt", "sub/h.svg", ".hidden/i.nef", "j"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.HEIC", "b.jxl", "c.jfif", "d.avif"]
    assert [path.name for path in list_left_out(tmp_path, recursive=True)] == ["e.psd", "f.CR2", "h.svg"]


@pytest.mark.parametrize("kinds", [(1,), (4,), (5, 1)])
def test_reduced_pages_and_masks_are_no_pictures(kinds):
    data = tiff_pages(*kinds)
    np.testing.assert_array_equal(read_image(data).pixels, PIXELS)
    assert read_size(data) == (24, 36)


def test_the_picture_may_come_behind_its_thumbnail():
    data = tiff_pages(0, first=1)
    assert read_image(data).pixels.shape == (6, 9, 3)
    assert read_size(data) == (6, 9)


def test_pages_that_are_pictures_and_raw_files_stay_refused():
    with pytest.raises(UserError, match="has 2 frames or pages"):
        read_image(tiff_pages(0))
    with pytest.raises(UserError, match="has 2 frames or pages"):
        read_image(tiff_pages(0, 1))
    raw = saved(PICTURE, "TIFF", tiffinfo={50706: b"\1\4\0\0"})
    with pytest.raises(UserError, match="raw file of a camera: develop it"):
        read_image(raw)


def test_pictures_of_installed_packages_are_read_as_pillow_reads_them():
    import matplotlib
    import skimage

    read = 0
    for package in (matplotlib, skimage):
        for path in sorted(Path(package.__file__).parent.rglob("*.[pjtgb][npimg][gfp]*")):
            data = path.read_bytes()
            try:
                with Image.open(io.BytesIO(data)) as image:
                    if getattr(image, "n_frames", 1) > 1 or image.mode in ("F", "I") or image.format in ("EPS", "PDF"):
                        continue
                    expected = np.asarray(image.convert("RGBA"))
                    deep = image.mode.startswith("I;16")
            except OSError:
                continue
            picture = read_image(data, name=str(path))
            read += 1
            if picture.pixels.dtype == np.uint8 and not deep:
                colours = np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], 3))
                np.testing.assert_array_equal(colours, expected[..., :3], err_msg=str(path))
                if picture.alpha is not None:
                    np.testing.assert_array_equal(picture.alpha, expected[..., 3], err_msg=str(path))
    assert read > 10
