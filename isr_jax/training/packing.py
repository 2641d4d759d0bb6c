"""Writing a pack: the files of the pictures as they are, or re-encoded so that all fit into a size."""

import dataclasses
import functools
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from isr_jax.config import ConfigError, UserError
from isr_jax.pictures.images import name_left_out
from isr_jax.pictures.pairs import InnerFile, dataset_name, list_pairs, list_unread, read_pixels
from isr_jax.training.pack import FORMAT, MANIFEST, VERSION, Pack, PackedPicture, read_pack
from isr_jax.training.sub_images import in_threads

LEAST_QUALITY, MOST_QUALITY = 80, 100
"""Of WebP; at less, what is lost is seen in what the network learns."""
_SCALES = range(1, 17)
"""Of which reduced pictures are looked for."""
_LICENCE = re.compile(
    r"(licen[cs]e|copying|copyright|notice|authors|sources|readme|manifest).*|.*\.(txt|md)", re.IGNORECASE
)
_MOST_LICENCE = 2**20
"""Bytes of the largest file that is taken for one that names licences."""
_MOST_WEBP = 16383
"""Pixels of the largest side that WebP holds."""


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """What is packed of a folder."""

    name: str
    hr: list[Path]
    lr: dict[int, list[Path]]
    licences: dict[str, Path]
    """By their paths seen from the folder."""


class _TooLarge(Exception):
    """The pack would exceed its size."""


def write_pack(folders: list[str], output: Path, *, max_size: int | None = None) -> Pack:
    """Packs the pictures of folders, in any of the layouts of `pictures.pairs`, into one file.

    The files are stored as they are. Where that exceeds `max_size`, HR pictures are re-encoded, WebP at the highest
    quality with which all fit, except those whose own file is smaller; reduced pictures never are. Re-encoded pictures
    are what training sees of them: 8 bits, no transparency.

    Args:
      folders: In the order in which training reads them.
      output: The file, written beside and then renamed.
      max_size: Largest size in bytes; None: as large as it gets.
    Returns: The pack, read back.
    Raises:
      ConfigError: If a folder is missing, or it is not clear which pictures are meant.
      UserError: If a folder has no pictures, none can be read, or they do not fit at the least quality.
    """
    if not folders or not all(folders):
        raise ConfigError("nothing to pack: name folders of pictures")
    found = [_find(Path(folder)) for folder in folders]
    paths = [path for folder in found for path in folder.hr]
    print(f"isr-jax: packing {len(paths)} pictures", file=sys.stderr)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name[:100]}.") as beside:
            best = _best(found, Path(beside), max_size)
            with best.open("rb") as file:
                os.fsync(file.fileno())
            best.replace(output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror or error})") from None
    pack = read_pack(output)
    for source in pack.sources:
        for picture in source.pictures():
            if picture.error:
                print(f"isr-jax: skipped {picture.error}", file=sys.stderr)
    return pack


def _best(folders: list[_Folder], beside: Path, max_size: int | None) -> Path:
    """Writes packs of one quality after the other, and returns the best that fits."""

    def attempt(quality: int | None) -> Path | None:
        path = beside / f"{quality}"
        try:
            _write(folders, path, quality, max_size)
        except _TooLarge:
            path.unlink()
            print(f"isr-jax: {_said(quality)}: too large", file=sys.stderr)
            return None
        print(f"isr-jax: {_said(quality)}: {path.stat().st_size / 2**20:.1f} MiB", file=sys.stderr)
        return path

    stored = sum(path.stat().st_size for folder in folders for path in folder.hr)
    if (max_size is None or stored <= max_size) and (path := attempt(None)):
        return path
    least, most, best = LEAST_QUALITY, MOST_QUALITY, None
    while least <= most:
        quality = (least + most + 1) // 2
        if (path := attempt(quality)) is not None:
            if best is not None:
                best.unlink()
            best, least = path, quality + 1
        else:
            most = quality - 1
    if best is None:
        raise UserError(
            f"the pictures do not fit into {(max_size or 0) / 2**20:.1f} MiB, even as WebP of quality {LEAST_QUALITY}:"
            " pack fewer folders, or allow more (`max_size`)"
        )
    return best


def _said(quality: int | None) -> str:
    return "the files as they are" if quality is None else f"WebP of quality {quality}"


def _find(folder: Path) -> _Folder:
    """Finds the pictures of a folder, and those of all scales beside them."""
    hr, lr, unread = [], {}, {}
    for scale in _SCALES:
        pairs = list_pairs(folder, scale)
        unread |= dict.fromkeys(list_unread(folder, scale))
        hr = [pair.hr for pair in pairs if isinstance(pair.hr, Path)]
        if reduced := [pair.lr for pair in pairs if isinstance(pair.lr, Path)]:
            lr[scale] = reduced
    name_left_out(unread)
    inside = Path(os.path.abspath(folder))
    root = inside.parent if inside.name == "HR" else inside
    licences = {
        os.path.relpath(path, root): path
        for place in (root, Path(os.path.abspath(hr[0].parent)))
        for path in sorted(place.iterdir())
        if _LICENCE.fullmatch(path.name) and path.is_file() and path.stat().st_size <= _MOST_LICENCE
    }
    return _Folder(name=dataset_name(folder), hr=hr, lr=lr, licences=licences)


def _write(folders: list[_Folder], path: Path, quality: int | None, max_size: int | None) -> None:
    """Writes a pack.

    Raises:
      _TooLarge: As soon as it exceeds `max_size`.
    """
    sources, total = [], 0
    with zipfile.ZipFile(path, "w") as archive:

        def add(member: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> None:
            nonlocal total
            archive.writestr(zipfile.ZipInfo(member), data, compression)  # of no date: the same files, the same pack
            total += len(data) if compression == zipfile.ZIP_STORED else 0
            if max_size is not None and total > max_size:
                raise _TooLarge

        def add_pictures(paths: list[Path], place: str, quality: int | None) -> list[dict[str, Any]]:
            entries = []
            encode = functools.partial(_encode, folder=folder.name, quality=quality)
            for index, (picture, data) in enumerate(in_threads(encode, paths)):
                member = f"{place}/{index:06}" if data else ""
                if member:
                    add(member, data)
                entries.append(dataclasses.asdict(dataclasses.replace(picture, member=member)))
            return entries

        for number, folder in enumerate(folders):
            licences = {name: f"{number}/licences/{i}.txt" for i, name in enumerate(folder.licences)}
            for name, file in folder.licences.items():
                add(licences[name], file.read_bytes(), zipfile.ZIP_DEFLATED)
            source = {
                "name": folder.name,
                "licences": licences,
                "hr": add_pictures(folder.hr, f"{number}/HR", quality),
                "lr": {str(s): add_pictures(paths, f"{number}/LRx{s}", None) for s, paths in folder.lr.items()},
            }
            sources.append(source)
        manifest = {"format": FORMAT, "version": VERSION, "quality": quality, "sources": sources}
        add(MANIFEST, json.dumps(manifest, indent=1).encode(), zipfile.ZIP_DEFLATED)
    if max_size is not None and path.stat().st_size > max_size:
        raise _TooLarge


def _encode(path: Path, *, folder: str, quality: int | None) -> tuple[PackedPicture, bytes]:
    """Returns what the manifest says of a picture, without its place, and the bytes to be stored.

    They are those of its file, or of WebP where that is smaller; none where the picture cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    stored, height, width, said = None, 0, 0, ""
    try:
        pixels = read_pixels(InnerFile(name=path.name, within=folder, read_bytes=lambda: data), convert=True)
    except UserError as error:
        said = str(error)
    else:
        height, width = pixels.shape[:2]
        if quality is not None and max(height, width) <= _MOST_WEBP:
            stream = io.BytesIO()
            image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
            image.save(stream, "WEBP", quality=quality, use_sharp_yuv=True)
            if stream.tell() < len(data):
                data, stored = stream.getvalue(), quality
    picture = PackedPicture(
        name=path.name,
        member="",
        error=said,
        sha256=hashlib.sha256(data).hexdigest(),
        height=height,
        width=width,
        quality=stored,
    )
    return picture, b"" if said else data
