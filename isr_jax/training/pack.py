"""A pack: the pictures of several folders, with what their licences say, in one file to train from.

It is a zip file. `manifest.json` says what is in it; the pictures are stored as their files are, or re-encoded, and the
licences beside them. Training reads the pictures out of the file; nothing is unpacked onto the disk, and the names
inside are used for messages and fingerprints alone. `training.packing` writes it.
"""

import functools
import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isr_jax.config import UserError
from isr_jax.pictures.pairs import InnerFile, PairFiles, files_digest

SUFFIX = ".pack"
FORMAT, VERSION = "isr_jax.pack", 1
MANIFEST = "manifest.json"
_MOST_MANIFEST = 2**28
"""Bytes of the largest manifest that is read."""


@dataclass(frozen=True, kw_only=True)
class PackedPicture:
    """A picture in a pack; its fields are those of the manifest."""

    name: str
    """Of its file."""
    member: str
    """Where it is stored; empty where it could not be read when the pack was made."""
    error: str
    """Why it could not be read; empty where it could."""
    sha256: str
    """Of the bytes stored, or of the file that could not be read."""
    height: int
    """Upright, pixels."""
    width: int
    quality: int | None
    """Of WebP where it was re-encoded; None: the bytes of the file."""


@dataclass(frozen=True, kw_only=True)
class PackedSource:
    """A folder in a pack."""

    name: str
    hr: tuple[PackedPicture, ...]
    lr: dict[int, tuple[PackedPicture, ...]]
    """The reduced pictures by their scale, in the order of HR."""
    licences: dict[str, str]
    """The files that say where the pictures are from and what may be done with them: their paths in the folder to
    their members."""
    path: Path
    archive: zipfile.ZipFile

    def pairs(self, scale: int) -> list[PairFiles]:
        """Returns the pairs as `pictures.pairs.list_pairs` returns those of the folder."""
        hr = [self._file(picture) for picture in self.hr]
        if scale not in self.lr:
            return [PairFiles(hr=file, lr=None) for file in hr]
        lr = [self._file(picture) for picture in self.lr[scale]]
        return [PairFiles(hr=h, lr=l) for h, l in zip(hr, lr, strict=True)]

    def content(self, scale: int) -> str:
        """Returns the digest of names and bytes; that of the folder where nothing was re-encoded."""
        sides = ([(p.name, bytes.fromhex(p.sha256)) for p in side] for side in (self.hr, self.lr.get(scale, ())))
        return files_digest(*sides)

    def pictures(self) -> Iterator[PackedPicture]:
        """Yields HR and all LR."""
        yield from self.hr
        for side in self.lr.values():
            yield from side

    def _file(self, picture: PackedPicture) -> InnerFile:
        return InnerFile(
            name=picture.name, within=f"{self.path}, {self.name}", read_bytes=functools.partial(self.read, picture)
        )

    def read(self, picture: PackedPicture) -> bytes:
        """Returns the bytes stored for a picture; several threads may at once.

        Raises:
          UserError: If they are damaged, or the picture could not be read when the pack was made.
        """
        if not picture.member:
            raise UserError(f"{self.path}: left out when it was packed: {picture.error}")
        try:
            data = self.archive.read(picture.member)
        except (OSError, EOFError, KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
            data = b""
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise UserError(f"{self.path} is damaged at {self.name}, {picture.name}: copy it again, or make it again")
        return data


@dataclass(frozen=True, kw_only=True)
class Pack:
    """An open pack."""

    path: Path
    quality: int | None
    """Of the pictures that were re-encoded, WebP; None: none was."""
    sources: tuple[PackedSource, ...]


def is_pack(path: Path) -> bool:
    """Tells whether a path is meant as a pack."""
    return path.suffix == SUFFIX and not path.is_dir()


def read_pack(path: Path) -> Pack:
    """Opens a pack and compares all that is stored in it with the hashes in its manifest.

    Raises:
      UserError: If it is missing, cut short, damaged, no pack, or of a later version.
    """
    try:
        archive = zipfile.ZipFile(path)
        info = archive.getinfo(MANIFEST)
        if info.file_size > _MOST_MANIFEST:
            raise ValueError
        manifest = json.loads(archive.read(info))
        if manifest["format"] != FORMAT:
            raise ValueError
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError):
        raise UserError(f"{path} is no pack, or cut short: copy it again, or make it with isr-jax pack") from None
    except (KeyError, ValueError, TypeError, RuntimeError, NotImplementedError, RecursionError):
        raise UserError(f"{path} is a zip file, but no pack: make one with isr-jax pack") from None
    if manifest.get("version") != VERSION:
        raise UserError(
            f"{path} is a pack of version {manifest.get('version')}; this isr_jax reads version {VERSION}: update it,"
            " or make the pack again"
        )
    try:
        sources = tuple(_source(source, path, archive) for source in manifest["sources"])
        if not sources:
            raise ValueError
        pack = Pack(path=path, quality=_optional_int(manifest["quality"]), sources=sources)
    except (KeyError, ValueError, TypeError, AttributeError):
        raise UserError(f"{path}: its manifest is damaged; copy it again, or make it again") from None
    for source in pack.sources:
        for picture in source.pictures():
            if picture.member:
                _check_stored(source, picture)
                source.read(picture)
    return pack


def _check_stored(source: PackedSource, picture: PackedPicture) -> None:
    """Refuses what a pack never holds and reading could fill the memory with: a compressed picture."""
    found = source.archive.NameToInfo.get(picture.member)
    if found is not None and (found.compress_type != zipfile.ZIP_STORED or found.file_size != found.compress_size):
        raise UserError(f"{source.path} was not made by isr-jax pack: {source.name}, {picture.name} is compressed")


def _source(entry: dict[str, Any], path: Path, archive: zipfile.ZipFile) -> PackedSource:
    """Reads one source of the manifest; raises nearly anything where it is damaged."""
    hr = tuple(map(_picture, entry["hr"]))
    lr = {int(scale): tuple(map(_picture, pictures)) for scale, pictures in entry["lr"].items()}
    if not hr or any(len(pictures) != len(hr) for pictures in lr.values()):
        raise ValueError
    licences = {str(name): str(member) for name, member in entry["licences"].items()}
    return PackedSource(name=str(entry["name"]), hr=hr, lr=lr, licences=licences, path=path, archive=archive)


def _picture(entry: dict[str, Any]) -> PackedPicture:
    bytes.fromhex(entry["sha256"])
    name = str(entry["name"])
    if "/" in name or "\0" in name:
        raise ValueError
    return PackedPicture(
        name=name,
        member=str(entry["member"]),
        error=str(entry["error"]),
        sha256=entry["sha256"],
        height=int(entry["height"]),
        width=int(entry["width"]),
        quality=_optional_int(entry["quality"]),
    )


def _optional_int(value: Any) -> int | None:
    return None if value is None else int(value)
