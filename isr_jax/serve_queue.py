"""The pictures that the local page was given: kept in a folder, inspected, and worked on one after the other.

All of it belongs to the server: a page that is closed, loaded anew or opened twice finds everything as it is. Nothing
is dropped to make room; what does not fit any more is refused.
"""

import io
import re
import sys
import time
import traceback
import zipfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import anyio

from isr_jax.config import UserError
from isr_jax.inference.estimate import Estimate
from isr_jax.pictures.encoding import encode_image, fit_to_format
from isr_jax.pictures.picture import Picture

MAX_PICTURES = 1000

State = Literal["waiting", "working", "done", "failed", "cancelled"]

Enlarge = Callable[[Path, Estimate, Callable[[int, int], None]], tuple[Picture, str]]
"""Returns the enlarged picture of a file, and the label of the model that made it. Tells the function that it is given
how much is done, and of how much."""

Inspect = Callable[[Path], tuple[tuple[int, int], Estimate]]
"""Returns the height and width of the picture in a file, and what is believed of it."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a picture has become."""

    turn: int
    """Which enlargement of the picture it is; its address, so that another one is another address."""
    name: str
    """Of the file that is downloaded."""
    label: str
    """Of the model."""
    width: int
    height: int
    seconds: float
    remarks: tuple[str, ...]
    """What its viewer should be told: damage that was mended, colours that could not be kept."""


@dataclass(kw_only=True, eq=False)
class Entry:
    """A picture."""

    number: int
    name: str
    """With its folders, where one was dragged in."""
    width: int
    height: int
    file: Path
    estimate: Estimate
    state: State = "waiting"
    error: str = ""
    asked: dict[str, str] = field(default_factory=dict)
    """The fields of the page, as it sent them."""
    turn: int = 0
    """Counts what was asked of it; what an earlier turn returns is not wanted any more."""
    enlarge: Enlarge | None = None
    began: float = 0.0
    share: float = 0.0
    """Of it that is done, 0..1."""
    result: Result | None = None
    """The last one, kept until there is another."""

    @property
    def result_file(self) -> Path:
        """Where the last result is."""
        return self.file.with_name(f"{self.number}-{self.result.turn if self.result else 0}.png")


class PictureQueue:
    """Pictures and what is to be done with them. Belongs to one event loop; the work runs in threads."""

    def __init__(self, folder: Path, *, max_bytes: int, max_total_bytes: int):
        """Starts empty.

        Args:
          folder: An empty one, for the pictures and the results.
          max_bytes: Largest file that is taken.
          max_total_bytes: Of all pictures and results together; one result may exceed it.
        """
        self.entries: dict[int, Entry] = {}
        self.revision = int(1000 * time.time())
        """Grows with each change; another server's is another."""
        self._folder, self._max_bytes, self._max_total_bytes = folder, max_bytes, max_total_bytes
        self._bytes, self._count, self._sweeps = 0, 0, 0
        self._waiting: deque[Entry] = deque()
        self._wake = anyio.Event()
        self._inspecting = anyio.CapacityLimiter(1)

    async def add(self, name: str, parts: AsyncIterator[bytes], inspect: Inspect) -> Entry:
        """Takes a picture.

        Args:
          name: Of the file, folders and all.
          parts: Its bytes.
          inspect: Looks at it, in a thread.
        Raises:
          UserError: If it is too large, there is no room for it, it is no picture, or all pictures were cancelled or
            removed while it came.
        """
        sweeps = self._sweeps
        if len(self.entries) >= MAX_PICTURES:
            raise UserError(f"the server holds {MAX_PICTURES} pictures: remove some first")
        self._count += 1
        number, size = self._count, 0
        file = self._folder / str(number)
        try:
            with file.open("wb") as stream:
                async for part in parts:
                    size += len(part)
                    self._bytes += len(part)
                    if size > self._max_bytes:
                        raise UserError(f"the file is larger than {self._max_bytes >> 20} MiB")
                    self._check_room()
                    stream.write(part)
            (height, width), estimate = await anyio.to_thread.run_sync(inspect, file, limiter=self._inspecting)
            if self._sweeps != sweeps:
                raise UserError("all pictures were cancelled or removed while it was being added")
        except BaseException:
            self._bytes -= size
            file.unlink(missing_ok=True)
            raise
        entry = Entry(number=number, name=clean_name(name), width=width, height=height, file=file, estimate=estimate)
        self.entries[number] = entry
        self.revision += 1
        return entry

    def ask(self, entry: Entry, asked: Mapping[str, str], enlarge: Enlarge, *, first: bool = False) -> None:
        """Has a picture enlarged when its turn comes, instead of what was asked of it before.

        Args:
          entry: The picture.
          asked: The fields that the page is to show of it.
          enlarge: What is done, in a thread.
          first: Whether it comes before all that wait.
        """
        self.withdraw(entry)
        entry.asked, entry.enlarge, entry.state, entry.error = dict(asked), enlarge, "waiting", ""
        self._waiting.appendleft(entry) if first else self._waiting.append(entry)
        self._wake.set()

    def refuse(self, entry: Entry, asked: Mapping[str, str], error: str) -> None:
        """Notes that what was asked cannot be done."""
        self.withdraw(entry)
        entry.asked, entry.state, entry.error = dict(asked), "failed", error

    def withdraw(self, entry: Entry) -> None:
        """Lets a picture that waits or is worked on be; an earlier result stays. What runs ends at its next window."""
        entry.turn += 1
        self.revision += 1
        if entry in self._waiting:
            self._waiting.remove(entry)
        if entry.state in ("waiting", "working"):
            entry.state = "cancelled"

    def withdraw_all(self) -> None:
        """Lets all pictures be that are not done; what is being added is not taken."""
        self._sweeps += 1
        for entry in self.entries.values():
            if entry.state in ("waiting", "working"):
                self.withdraw(entry)

    def remove(self, entry: Entry) -> None:
        """Forgets a picture and its result."""
        self.withdraw(entry)
        del self.entries[entry.number]
        self._delete(entry.file)
        if entry.result is not None:
            self._delete(entry.result_file)

    def remove_all(self) -> None:
        """Forgets all pictures and results; what is being added is not taken."""
        self._sweeps += 1
        for entry in list(self.entries.values()):
            self.remove(entry)

    async def work(self) -> None:
        """Does what was asked, one picture at a time, until it is cancelled."""
        while True:
            if self._waiting:
                await self._do(self._waiting.popleft())
            else:
                self._wake = anyio.Event()
                await self._wake.wait()

    def snapshot(self) -> list[dict[str, Any]]:
        """Returns the pictures as the page shows them."""
        now = time.monotonic()
        return [
            {name: getattr(entry, name) for name in ("number", "name", "width", "height", "state", "error", "asked")}
            | {"seconds": round(now - entry.began) if entry.state == "working" else 0, "share": entry.share}
            | {"result": None if entry.result is None else asdict(entry.result)}
            for entry in self.entries.values()
        ]

    async def _do(self, entry: Entry) -> None:
        turn, result, error = entry.turn, None, ""
        entry.state, entry.began, entry.share = "working", time.monotonic(), 0.0
        self.revision += 1

        def advance(done: int, total: int) -> None:
            if entry.turn != turn:
                raise _NotWanted
            entry.share = done / total
            self.revision += 1

        def tell(done: int, total: int) -> None:
            anyio.from_thread.run_sync(advance, done, total)

        try:
            self._check_room()
            result = await anyio.to_thread.run_sync(_make, entry, turn, tell, abandon_on_cancel=True)
        except _NotWanted:
            pass
        except (UserError, OSError, MemoryError) as problem:
            error = one_line(problem)
        except Exception:  # the others must not wait for ever
            traceback.print_exc()
            error = "this is a fault of the program; its terminal says more"
        made = entry.file.with_name(f"{entry.number}-{turn}.png")
        if made.exists():
            self._bytes += made.stat().st_size
        if entry.turn != turn or result is None:  # cancelled, removed, or asked for anew; or half written
            self._delete(made)
        if entry.turn != turn:
            return
        self.revision += 1
        entry.state, entry.error = ("failed", error) if result is None else ("done", "")
        if result is not None:
            if entry.result is not None:
                self._delete(entry.result_file)
            entry.result = result
            print(f"{entry.name}: {result.label}, {result.seconds:.1f} s", file=sys.stderr)

    def _check_room(self) -> None:
        if self._bytes >= self._max_total_bytes:
            most = self._max_total_bytes >> 20
            raise UserError(f"pictures and results fill the {most} MiB that the server keeps: remove some")

    def _delete(self, file: Path) -> None:
        if file.exists():
            self._bytes -= file.stat().st_size
            file.unlink()


class _NotWanted(Exception):
    """A picture was cancelled, removed or asked for anew while it was worked on."""


def _make(entry: Entry, turn: int, tell: Callable[[int, int], None]) -> Result:
    assert entry.enlarge is not None
    start = time.perf_counter()
    picture, label = entry.enlarge(entry.file, entry.estimate, tell)
    picture = fit_to_format(picture, "PNG")
    data = encode_image(picture, "PNG")
    entry.file.with_name(f"{entry.number}-{turn}.png").write_bytes(data)
    height, width = picture.pixels.shape[:2]
    return Result(
        turn=turn,
        name=f"{entry.name.rpartition('.')[0] or entry.name}_{label}.png",
        label=label,
        width=width,
        height=height,
        seconds=round(time.perf_counter() - start, 2),
        remarks=picture.remarks,
    )


def clean_name(name: str) -> str:
    """Returns the name of a file with its folders, none of which leads out of where it is unpacked."""
    parts = re.sub(r'[\x00-\x1f\x7f<>:"|?*]', "_", name).replace("\\", "/").split("/")
    # File systems take 255 bytes, of which the result's ending needs some.
    short = (part.encode(errors="replace")[-150:].decode(errors="ignore") for part in parts[-8:])
    return "/".join(part for part in short if part.strip(" .")) or "picture"


def one_line(error: Exception) -> str:
    """Returns what an error says, for people who see no arguments."""
    if isinstance(error, OSError) and error.strerror:
        return f"the server cannot keep the picture: {error.strerror}"
    return " ".join(str(error).replace("`", "").split()) or type(error).__name__


class _Pipe(io.RawIOBase):
    """Collects what is written until it is taken."""

    def __init__(self) -> None:
        self._data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data, self._data = bytes(self._data), bytearray()
        return data


def stream_zip(files: list[tuple[str, Path]]) -> Iterator[bytes]:
    """Yields a zip file of files and the names they get, 1 MiB at a time; those that are gone by then are left out."""
    pipe, used, now = _Pipe(), set[str](), datetime.now().timetuple()[:6]
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, file in files:
            stem, count, unique = name.removesuffix(".png"), 1, name
            while unique.lower() in used:
                unique, count = f"{stem} ({count + 1}).png", count + 1
            used.add(unique.lower())
            try:
                source = file.open("rb")
            except FileNotFoundError:
                continue
            with source, archive.open(zipfile.ZipInfo(unique, now), "w") as target:
                while part := source.read(2**20):
                    target.write(part)
                    yield pipe.take()
    yield pipe.take()
