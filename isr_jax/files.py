"""Writing files so that a half-written one never replaces a whole one."""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` fill a temporary file beside `path` and then renames it; a failure leaves what was there.

    The folder of `path` is made if need be.

    Raises:
      OSError: If it cannot be written; it names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path
    try:
        with _naming(path):
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=path.suffix)
            os.close(handle)
            temporary = Path(name)
            write(temporary)
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp's files are private
            temporary.replace(path)
    finally:
        if temporary != path:
            temporary.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Finds out, before long work, whether `replace_file` could write a file.

    Raises:
      OSError: If it could not; it names `path`.
    """
    folder = next(folder for folder in path.absolute().parents if folder.exists())  # others are made when it is written
    with _naming(path), tempfile.NamedTemporaryFile(dir=folder, prefix=_prefix(path)):
        pass


def _prefix(path: Path) -> str:
    """How the name of what is written beside `path` begins."""
    return f".{path.name[:100]}."


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Lets an OSError name `path`: a full disk names no file, and what is beside it nobody knows."""
    try:
        yield
    except OSError as error:
        about = None if error.filename is None else Path(os.fsdecode(error.filename)).name
        if error.errno is not None and (about is None or about.startswith(_prefix(path))):
            error.filename = str(path)
        raise


def write_file(path: Path, write: Callable[[io.BufferedIOBase], Any]) -> None:
    """Lets `write` fill a stream, and puts what it wrote in the place of `path`, as `replace_file` does.

    Every byte goes through Python, which says of a full disk that it is full; Pillow and NumPy, given a file, write to
    its descriptor, and say nothing of the cause.
    """

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            write(_NoDescriptor(file))

    replace_file(path, fill)


class _NoDescriptor(io.BufferedIOBase):
    """A stream to a file that has no descriptor to give away."""

    def __init__(self, file: io.BufferedWriter):
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, renamed to it when the context is left; removed if that fails.

    Raises:
      OSError: If it cannot be written, or `path` is there meanwhile, unless it is an empty folder; it names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp's folders are private
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def printable(text: str, most: int | None = None) -> str:
    """Returns what a terminal may be sent of a text from a file, at most so many characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])
