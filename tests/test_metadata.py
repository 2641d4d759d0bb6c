"""isr_jax.pictures.metadata: what files say of their pictures, from format to format, and damaged."""

import io
import struct

import numpy as np
import pytest
from picture_cases import PICTURE, PIXELS, saved
from PIL import ExifTags, Image, IptcImagePlugin, PngImagePlugin

from isr_jax.pictures.encoding import encode_image, fit_to_format
from isr_jax.pictures.images import read_image, scaled_picture
from isr_jax.pictures.metadata import Metadata
from isr_jax.pictures.picture import Picture

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description tiff:Orientation="6" tiff:ImageWidth="36" tiff:ImageLength="24" dc:rights="mine">'
    b"<exif:PixelXDimension>36</exif:PixelXDimension><exif:PixelYDimension>24</exif:PixelYDimension>"
    b"<xmp:Thumbnails><rdf:Alt><rdf:li>AAAA</rdf:li></rdf:Alt></xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def full_exif() -> Image.Exif:
    exif = Image.Exif()
    exif.update({0x010E: "ein Bild, größer".encode(), 0x0112: 6, 0x8298: "(c) someone", 0x013B: "an author"})
    details = {0x9003: "2024:05:06 07:08:09", 0xA002: 36, 0xA003: 24, 0x829A: 0.005, 0x927C: b"maker's own"}
    exif.get_ifd(ExifTags.IFD.Exif).update(details)
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (52.0, 31.0, 12.0)})
    return exif


def with_thumbnail(exif: bytes) -> bytes:
    """Returns EXIF bytes with a second directory that holds a thumbnail."""
    thumbnail = saved(PICTURE.resize((9, 6)), "JPEG")
    data = bytearray(exif.removeprefix(b"Exif\0\0"))
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[first : first + 2])
    data += b"\0" * (len(data) % 2)
    second = len(data)
    data[first + 2 + 12 * count : first + 6 + 12 * count] = struct.pack(order + "I", second)
    entries = [(0x0201, 4, 1, second + 2 + 24 + 4), (0x0202, 4, 1, len(thumbnail))]
    data += struct.pack(order + "H", 2) + b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return b"Exif\0\0" + bytes(data) + b"\0\0\0\0" + thumbnail


def iptc_records() -> bytes:
    return b"\x1c\x02\x78\x00\x07caption\x1c\x02\x74\x00\x06rights"


def source(image_format: str) -> bytes:
    options = {"exif": with_thumbnail(full_exif().tobytes()), "xmp": XMP}
    if image_format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = info
    if image_format == "JPEG":
        resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc_records())) + iptc_records()
        resource = b"Photoshop 3.0\0" + resource + b"\0" * (len(iptc_records()) % 2)
        options["extra"] = b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource
        options["quality"] = 95
    return saved(PICTURE, image_format, **options)


@pytest.mark.parametrize("before", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("after", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_said_travels_from_format_to_format(before, after, dtype):
    picture = read_image(source(before))
    assert picture.pixels.shape == (36, 24, 3)  # turned
    larger = scaled_picture(picture, np.zeros((72, 48, 3), dtype))
    data = encode_image(larger, after)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (48, 72)
        exif = image.getexif()
        details, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
        xmp = image.info["xmp"]
    if before != "AVIF":  # to which Pillow itself writes other letters than ASCII's as question marks
        assert exif[0x010E].encode("latin-1") == "ein Bild, größer".encode()
    assert [exif[tag] for tag in (0x8298, 0x013B)] == ["(c) someone", "an author"]
    assert exif.get(0x0112, 1) == 1
    assert details[0x9003] == "2024:05:06 07:08:09"
    assert (details[0xA002], details[0xA003]) == (48, 72)
    assert float(details[0x829A]) == pytest.approx(0.005)
    assert details[0x927C] == b"maker's own"
    assert [float(value) for value in place[2]] == [52, 31, 12]
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    for said in (b'tiff:Orientation="1"', b'tiff:ImageWidth="48"', b'tiff:ImageLength="72"', b'dc:rights="mine"'):
        assert said in xmp
    assert b"PixelXDimension>48<" in xmp
    assert b"PixelYDimension>72<" in xmp
    assert b"Thumbnails" not in xmp
    again = read_image(data)
    assert again.pixels.shape == (72, 48, 3)  # not turned once more
    if after in ("JPEG", "PNG"):
        assert again.metadata.exif == larger.metadata.exif


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "AVIF", "BMP"])
def test_iptc_is_said_to_be_left_out_where_there_is_none(image_format):
    picture = Picture(pixels=np.zeros((4, 4, 3), np.uint8), metadata=Metadata(iptc=iptc_records()))
    fitted = fit_to_format(picture, image_format)
    assert any("no place for its IPTC data" in remark for remark in fitted.remarks)
    assert fit_to_format(fitted, image_format).remarks == fitted.remarks  # once
    assert not any("IPTC" in r for f in ("JPEG", "TIFF") for r in fit_to_format(picture, f).remarks)


@pytest.mark.parametrize("after", ["JPEG", "TIFF"])
def test_iptc_is_kept_where_there_is_room_for_it(after):
    data = encode_image(read_image(source("JPEG")), after)
    with Image.open(io.BytesIO(data)) as image:
        records = IptcImagePlugin.getiptcinfo(image)
    assert records == {(2, 120): b"caption", (2, 116): b"rights"}
    assert read_image(data).metadata.iptc == iptc_records()


def test_texts_of_a_png():
    info = PngImagePlugin.PngInfo()
    info.add_text("Copyright", "© someone")
    info.add_text("Comment", "a comment", zip=True)
    info.add_itxt("Title", "größer")
    picture = read_image(saved(PICTURE, "PNG", pnginfo=info))
    for pixels in (PIXELS, PIXELS.astype(np.uint16)):
        with Image.open(io.BytesIO(encode_image(scaled_picture(picture, pixels), "PNG"))) as image:
            image.load()
            assert dict(image.text) == {"Copyright": "© someone", "Comment": "a comment", "Title": "größer"}
    with Image.open(io.BytesIO(encode_image(picture, "WEBP"))) as image:
        exif = image.getexif()
        assert exif[0x8298].encode("latin-1") == "© someone".encode()
        assert b"a comment" in exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]


@pytest.mark.parametrize("after", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_a_comment_alone_and_a_text_alone(after):
    picture = read_image(saved(PICTURE.quantize(8), "GIF", comment=b"nothing but this"))
    assert b"nothing but this" in encode_image(picture, after)
    info = PngImagePlugin.PngInfo()
    info.add_text("Copyright", "someone")
    assert b"someone" in encode_image(read_image(saved(PICTURE, "PNG", pnginfo=info)), after)
    info.add_text("Comment", "said")
    assert b"said" in encode_image(read_image(saved(PICTURE, "PNG", pnginfo=info)), after)


def test_what_a_jpeg_has_no_room_for_is_said():
    exif = full_exif()
    exif.get_ifd(ExifTags.IFD.Exif)[0x927C] = b"\1" * 70_000
    picture = read_image(saved(PICTURE, "PNG", exif=exif.tobytes()))
    from isr_jax.pictures.encoding import fit_to_format

    fitted = fit_to_format(picture, "JPEG")
    assert fitted.remarks == ("its EXIF data are too large for a JPEG: they are left out",)
    assert read_image(encode_image(picture, "JPEG")).metadata.exif == b""
    assert len(read_image(encode_image(picture, "WEBP")).metadata.exif) > 70_000


def test_a_tiff_keeps_no_place_of_its_old_strips():
    tags = {270: "a description", 33432: "(c) someone", 305: "a program"}
    picture = read_image(saved(PICTURE, "TIFF", tiffinfo=tags, compression="tiff_lzw"))
    with Image.open(io.BytesIO(encode_image(picture, "PNG"))) as image:
        exif = dict(image.getexif())
    assert exif == {0x010E: "a description", 0x8298: "(c) someone", 0x0131: "a program"}


def test_damaged_exif_is_left_out_and_the_rest_kept(rng):
    whole = full_exif().tobytes()
    kept = 0
    for _ in range(200):
        data = bytearray(whole)
        for at in rng.integers(6, len(data), 3):
            data[at] = rng.integers(0, 256)
        picture = read_image(saved(PICTURE, "PNG", exif=bytes(data)))
        for image_format in ("PNG", "TIFF", "WEBP"):
            assert encode_image(picture, image_format)
        kept += b"someone" in picture.metadata.exif
    assert kept > 50


def test_pillow_images_keep_it():
    from isr_jax.pictures.pillow import picture_from_pillow, picture_to_pillow

    with Image.open(io.BytesIO(source("JPEG"))) as image:
        picture = picture_from_pillow(image)
    back = picture_to_pillow(scaled_picture(picture, np.zeros((72, 48, 3), np.uint8)))
    assert back.getexif()[0x8298] == "(c) someone"
    assert back.getexif().get_ifd(ExifTags.IFD.Exif)[0xA002] == 48
    assert b'dc:rights="mine"' in back.info["xmp"]


def test_the_place_alone():
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (52.0, 31.0, 12.0)})
    data = encode_image(read_image(saved(PICTURE, "JPEG", exif=exif.tobytes())), "PNG")
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"


def test_nothing_said_is_nothing_written():
    data = encode_image(Picture(pixels=PIXELS), "WEBP")
    assert b"EXIF" not in data
    assert b"XMP " not in data


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
