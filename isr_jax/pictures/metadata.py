"""What a file says of its picture besides the pixels: EXIF, XMP, IPTC, comments.

It is read so that it stays true of the upright picture: the orientation is taken out (it is applied to the pixels), the
thumbnail dropped; `resized` makes the sizes right. Only what describes the picture is kept of EXIF's first directory,
for in a TIFF that also says where its strips lie.
"""

import re
import struct
from dataclasses import dataclass, replace
from typing import Any

from PIL import ExifTags, Image, TiffTags

_DESCRIBING = frozenset(
    [0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0)]
)
"""Document name, description, make, model, software, date, artist, computer, ratings, copyright, Windows' texts."""

_INNER = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_SIZE_TAGS = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_TEXT_TAGS = {"Description": 0x010E, "Author": 0x013B, "Copyright": 0x8298, "Software": 0x0131}
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="[0-9]+"|>[^<]*</tiff:Orientation)')
_XMP_THUMBNAILS = re.compile(rb"<(?:xmp|xap):Thumbnails\b.*?</(?:xmp|xap):Thumbnails>", re.DOTALL)
_XMP_SIDES = (
    re.compile(rb'((?:tiff:ImageWidth|exif:PixelXDimension)(?:="|>))[0-9]+'),
    re.compile(rb'((?:tiff:ImageLength|exif:PixelYDimension)(?:="|>))[0-9]+'),
)
_DAMAGE = (SyntaxError, struct.error, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What belongs to a picture, each part as the bytes that files hold; empty where there is none."""

    exif: bytes = b""
    """As `PIL.Image.Exif.tobytes` gives it."""
    xmp: bytes = b""
    iptc: bytes = b""
    """The records of IPTC-IIM."""
    comment: bytes = b""
    texts: tuple[tuple[str, str], ...] = ()
    """The keywords and texts of a PNG."""

    def resized(self, height: int, width: int) -> "Metadata":
        """Returns it for the picture in another size."""
        exif = self.exif
        if exif:
            directory = _load(exif)
            details = directory.get_ifd(ExifTags.IFD.Exif)
            if any(tag in details for tag in _SIZE_TAGS):
                details.update(zip(_SIZE_TAGS, (width, height), strict=True))
                exif = directory.tobytes()
        xmp = self.xmp
        for pattern, side in zip(_XMP_SIDES, (width, height), strict=True):
            xmp = pattern.sub(rb"\g<1>%d" % side, xmp)
        return replace(self, exif=exif, xmp=xmp)


NO_METADATA = Metadata()


def read_exif(image: Image.Image) -> Image.Exif:
    """Returns the EXIF data, none where they are damaged: the picture is not."""
    try:
        return image.getexif()
    except _DAMAGE:
        return Image.Exif()


def read_metadata(image: Image.Image, exif: Image.Exif) -> Metadata:
    """Returns the metadata of an open Pillow image; what is damaged is left out.

    Args:
      image: The image.
      exif: What `read_exif` said of it.
    """
    info = image.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    texts = getattr(image, "text", None) if image.format == "PNG" else None
    texts = {key: str(text) for key, text in (texts or {}).items() if not key.startswith(("Raw profile", "XML:"))}
    comment = info.get("comment") or texts.pop("Comment", "")
    return Metadata(
        exif=_describing_part(exif),
        xmp=_XMP_THUMBNAILS.sub(b"", _XMP_ORIENTATION.sub(_without_orientation, xmp)),
        iptc=_read_iptc(image),
        comment=comment.encode() if isinstance(comment, str) else bytes(comment),
        texts=tuple(texts.items()),
    )


def exif_of(metadata: Metadata, resolution: tuple[float | int, float | int] | None = None) -> Image.Exif:
    """Returns the EXIF data for a format that has neither texts, nor comments, nor (where it is given) a resolution."""
    exif = _load(metadata.exif)
    texts = dict(metadata.texts)
    for key, tag in _TEXT_TAGS.items():
        if key in texts and tag not in exif:
            exif[tag] = texts[key].encode()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    if metadata.comment and ExifTags.Base.UserComment not in details:
        details[ExifTags.Base.UserComment] = b"\0\0\0\0\0\0\0\0" + metadata.comment
    if resolution:
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = resolution
        exif[ExifTags.Base.ResolutionUnit] = 2
    return exif


def exif_bytes(metadata: Metadata, resolution: tuple[float | int, float | int] | None = None) -> bytes:
    """Returns `exif_of` as bytes, none where it says nothing."""
    exif = exif_of(metadata, resolution)
    return exif.tobytes() if _says_something(exif) else b""


def exif_is_adobe_rgb(exif: Image.Exif) -> bool:
    """Tells whether EXIF names the colours of Adobe RGB (DCF's optional colour space), as cameras do."""
    try:
        details = exif.get_ifd(ExifTags.IFD.Exif)
        index = exif.get_ifd(ExifTags.IFD.Interop).get(1)
    except _DAMAGE:
        return False
    index = index.decode("ascii", "replace") if isinstance(index, bytes) else str(index)
    return details.get(ExifTags.Base.ColorSpace) != 1 and index.strip("\0 ") == "R03"


def _load(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    if data:
        exif.load(data)
        for tag in _DESCRIBING & set(exif):
            exif[tag] = _as_it_was(tag, exif[tag])
    return exif


def _says_something(exif: Image.Exif) -> bool:
    return any([len(exif), *(exif.get_ifd(directory) for directory in _INNER)])


def _as_it_was(tag: int, value: Any) -> Any:
    """Returns a text with other letters than ASCII's as the bytes it was read from; Pillow would write "?" for them."""
    is_text = isinstance(value, str) and TiffTags.lookup(tag).type == TiffTags.ASCII
    return value.encode("latin-1", "replace") if is_text and not value.isascii() else value


def _describing_part(exif: Image.Exif) -> bytes:
    """Returns the bytes of what describes the picture; less where some of it cannot be written."""
    for left_out in ((), (ExifTags.Base.MakerNote, ExifTags.Base.UserComment), None):
        kept = Image.Exif()
        kept.endian = exif.endian
        try:
            for tag in _DESCRIBING & set(exif):
                kept[tag] = _as_it_was(tag, exif[tag])
            if left_out is not None:
                for directory in _INNER:
                    tags: dict[int, Any] = dict(exif.get_ifd(directory))
                    tags = {tag: value for tag, value in tags.items() if tag not in left_out}
                    if ExifTags.IFD.Interop in tags:
                        tags[ExifTags.IFD.Interop] = dict(exif.get_ifd(ExifTags.IFD.Interop))
                    if tags:
                        kept.get_ifd(directory).update(tags)
            data = kept.tobytes()
            return data if _says_something(_load(data)) else b""  # what cannot be read again is not worth writing
        except _DAMAGE:
            continue
    return b""


def _without_orientation(match: re.Match[bytes]) -> bytes:
    return b'tiff:Orientation="1"' if b"=" in match[0] else b"tiff:Orientation>1</tiff:Orientation"


def _read_iptc(image: Image.Image) -> bytes:
    resources = image.info.get("photoshop")
    if isinstance(resources, dict) and isinstance(resources.get(0x0404), bytes):
        return resources[0x0404]
    value = getattr(image, "tag_v2", {}).get(33723, b"")
    if isinstance(value, tuple) and all(isinstance(word, int) for word in value):  # some write it as 32-bit words
        value = struct.pack(f"<{len(value)}L", *value)
    return value if isinstance(value, bytes) else b""
