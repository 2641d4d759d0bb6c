"""The command ``isr-jax serve``: a local page to enlarge pictures, look at the results, and download them.

The page and its pictures stay on this computer: the server listens on its loopback address alone. Other web sites
that the browser has open cannot use it: a request must name this host, come from its own page if it says where it comes
from, and an upload has a content type that browsers send to strangers only with their consent.
"""

import contextlib
import errno
import functools
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from isr_jax.__main__ import explain, in_flags, run
from isr_jax.benchmark.web import render
from isr_jax.command_line import parse_arguments
from isr_jax.config import ConfigError, UserError
from isr_jax.inference.conditions import MAX_BLUR
from isr_jax.inference.estimate import Estimate, estimate_degradation
from isr_jax.models.model_file import shipped_models
from isr_jax.pictures.encoding import encode_image
from isr_jax.pictures.formats import READ_SUFFIXES
from isr_jax.pictures.images import read_image, read_size
from isr_jax.serve_models import AUTOMATIC, MAX_NOISE, SIZES, Choices, Models
from isr_jax.serve_queue import Entry, PictureQueue, one_line, stream_zip
from isr_jax.startup import prepare_process

HOST = "127.0.0.1"
GONE = "the server has no such picture (any more)"
FIELDS = ("model", *SIZES, "blur", "noise", "jpeg", "strength")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """The arguments of the command."""

    model: tuple[str, ...] = ()
    """Shipped names, model files or run folders to choose from; by default all shipped models, and for each picture the
    one that it is believed to need."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    max_megabytes: int = 50
    """Largest file that is taken, MiB."""
    max_pixels: int = 4_000_000
    """Largest picture that is taken, before it is enlarged."""
    keep_megabytes: int = 2000
    """MiB of pictures and results that are kept, in a temporary folder, until the server ends."""


def main(argv: list[str] | None = None) -> None:
    """Serves until it is interrupted."""
    config = parse_arguments(
        ServeConfig, argv, prog="isr-jax serve", description="A local page to super-resolve pictures in the browser."
    )
    if not 0 <= config.port < 2**16:
        raise ConfigError(f"--port {config.port}: a port is 0 (a free one) to 65535")
    for name in ("max_megabytes", "max_pixels", "keep_megabytes"):
        if getattr(config, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(config, name)}: choose at least 1")
    prepare_process(large_blocks=False)
    app = make_app(config)
    try:
        listener = socket.create_server((HOST, config.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {config.port} is in use: give another with --port, or 0 for a free one") from error
        raise ConfigError(f"cannot listen on port {config.port}: {error}") from error
    print(f"http://{HOST}:{listener.getsockname()[1]}/   (Ctrl-C ends it)", flush=True)
    settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    try:
        uvicorn.Server(settings).run(sockets=[listener])
    except KeyboardInterrupt as error:
        os._exit(explain(error) or 1)  # a picture that is worked on cannot be interrupted, and Python would wait for it


def make_app(config: ServeConfig) -> Starlette:
    """Returns the web application.

    Raises:
      ConfigError: If there is no model, or one cannot be found.
      UserError: If a file is not a model.
    """
    names = config.model or (AUTOMATIC, *shipped_models()[::-1])
    if names == (AUTOMATIC,):
        raise ConfigError("no model comes with this version: name one with --model")
    return Service(config, Models(names)).app()


class Service:
    """The routes: a picture is a resource, /pictures/NUMBER."""

    def __init__(self, config: ServeConfig, models: Models):
        """Makes the page."""
        self._config, self._models = config, models
        self._page = render(
            "serve.html",
            data={
                "models": [asdict(choices) for choices in models.choices.values()],
                "max_blur": MAX_BLUR,
                "max_noise": MAX_NOISE,
                "megabytes": config.max_megabytes,
                "suffixes": sorted(READ_SUFFIXES),
            },
        )
        self._queue: PictureQueue

    def app(self) -> Starlette:
        """Returns the application."""
        picture = "/pictures/{number}"
        return Starlette(
            routes=[
                Route("/", self.show),
                Route("/pictures", self.list_pictures),
                Route("/pictures", self.add, methods=["POST"]),
                Route("/pictures", self.remove_all, methods=["DELETE"]),
                Route("/pictures/cancel", self.cancel_all, methods=["POST"]),
                Route(picture, self.remove, methods=["DELETE"]),
                Route(picture + "/enlarge", self.enlarge, methods=["POST"]),
                Route(picture + "/cancel", self.cancel, methods=["POST"]),
                Route(picture + "/before", self.before),
                Route(picture + "/result", self.result),
                Route("/results.zip", self.results),
            ],
            lifespan=self._run,
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", HOST]),
                Middleware(_OwnPageOnly),
            ],
            exception_handlers={HTTPException: _explain, UserError: _explain, OSError: _explain},
        )

    @contextlib.asynccontextmanager
    async def _run(self, app: Starlette) -> AsyncIterator[None]:
        """Works in a folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="isr-jax-serve-", ignore_cleanup_errors=True) as folder:
            sizes = (self._config.max_megabytes * 2**20, self._config.keep_megabytes * 2**20)
            self._queue = PictureQueue(Path(folder), max_bytes=sizes[0], max_total_bytes=sizes[1])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._queue.work)
                yield
                tasks.cancel_scope.cancel()

    async def show(self, request: Request) -> Response:
        """The page."""
        return HTMLResponse(self._page, headers=_HEADERS)

    async def list_pictures(self, request: Request) -> Response:
        """All pictures; nothing (204) where nothing has changed since the revision that the page knows."""
        queue = self._queue
        if request.query_params.get("known") == str(queue.revision):
            return Response(status_code=204, headers=_HEADERS)
        pictures = queue.snapshot()
        for picture in pictures:
            picture["estimate"] = self._believed(queue.entries[picture["number"]].estimate)
        return _answer({"revision": queue.revision, "pictures": pictures})

    async def add(self, request: Request) -> Response:
        """Takes a picture and has it enlarged."""
        if request.headers.get("content-type") != "application/octet-stream":
            return _refuse(415, "send the file as application/octet-stream")
        asked = _fields(request)
        choices, known = self._read(asked)
        try:
            name = request.query_params.get("name", "picture")
            entry = await self._queue.add(name, request.stream(), self._inspect)
        except ClientDisconnect:
            return _refuse(400, "the upload was broken off")
        try:
            choices.own_scale((entry.height, entry.width), known)
        except ConfigError as error:
            self._queue.refuse(entry, asked, one_line(error))
        else:
            self._ask(entry, asked, choices, known)
        return _answer({"number": entry.number})

    async def enlarge(self, request: Request) -> Response:
        """Enlarges a picture anew, before all that wait, or (?last) after them."""
        entry, asked = self._entry(request), _fields(request)
        choices, known = self._read(asked)
        choices.own_scale((entry.height, entry.width), known)
        self._ask(entry, asked, choices, known, first="last" not in request.query_params)
        return _answer({})

    async def cancel(self, request: Request) -> Response:
        """Lets one picture be."""
        self._queue.withdraw(self._entry(request))
        return _answer({})

    async def cancel_all(self, request: Request) -> Response:
        """Lets all pictures be that are not done."""
        self._queue.withdraw_all()
        return _answer({})

    async def remove(self, request: Request) -> Response:
        """Forgets one picture and its result."""
        self._queue.remove(self._entry(request))
        return _answer({})

    async def remove_all(self, request: Request) -> Response:
        """Forgets all pictures and results."""
        self._queue.remove_all()
        return _answer({})

    async def before(self, request: Request) -> Response:
        """The picture as a browser can show it, whatever its format: upright, PNG."""
        file = self._entry(request).file

        def as_png() -> bytes:
            return encode_image(read_image(file.read_bytes()), "PNG", compression=1)

        return Response(await anyio.to_thread.run_sync(as_png), media_type="image/png", headers=_HEADERS)

    async def result(self, request: Request) -> Response:
        """The last result."""
        entry = self._entry(request)
        if entry.result is None:
            return _refuse(404, "it is not done yet")
        return FileResponse(entry.result_file, media_type="image/png", headers=_HEADERS)

    async def results(self, request: Request) -> Response:
        """All results in one zip file, which is made while it is sent."""
        done = [(entry.result.name, entry.result_file) for entry in self._queue.entries.values() if entry.result]
        headers = {**_HEADERS, "Content-Disposition": 'attachment; filename="enlarged.zip"'}
        return StreamingResponse(stream_zip(done), media_type="application/zip", headers=headers)

    def _inspect(self, file: Path) -> tuple[tuple[int, int], Estimate]:
        data = file.read_bytes()
        size = read_size(data, max_pixels=self._config.max_pixels)  # before it is decoded
        return size, estimate_degradation(data)

    def _believed(self, estimate: Estimate) -> dict[str, Any]:
        """Returns what the page shows of an estimate: in words for each scale; the blur in the picture's own pixels."""
        blur = round((estimate.at_scale(1).blur_std or 0) * estimate.trust, 3)
        return {
            "words": {scale: str(estimate.at_scale(scale)) for scale in self._models.scales},
            "blur": blur,
            "noise": estimate.noise_std or 0,
            "jpeg": None if estimate.jpeg is None else estimate.jpeg.quality,
            "confidence": estimate.confidence,
            "remarks": estimate.remarks,
        }

    def _read(self, asked: Mapping[str, str]) -> tuple[Choices, dict[str, Any]]:
        name = asked.get("model") or next(iter(self._models.choices))
        if name not in self._models.choices:
            raise HTTPException(404, f"no model {name}")
        return self._models.choices[name], self._models.choices[name].read(asked)

    def _ask(
        self, entry: Entry, asked: dict[str, str], choices: Choices, known: dict[str, Any], first: bool = False
    ) -> None:
        enlarge = functools.partial(self._models.enlarge, choices.name, known)
        self._queue.ask(entry, asked, enlarge, first=first)

    def _entry(self, request: Request) -> Entry:
        number = request.path_params["number"]
        entry = next((entry for entry in self._queue.entries.values() if str(entry.number) == number), None)
        if entry is None:
            raise HTTPException(404, GONE)
        return entry


class _OwnPageOnly:
    """Refuses what other pages that the browser has open ask for."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            site = headers.get("sec-fetch-site", "none")
            foreign = headers.get("origin", f"http://{headers.get('host')}") != f"http://{headers.get('host')}"
            if foreign or (site not in ("same-origin", "none") and scope["path"] != "/"):
                await _refuse(403, "this is for the server's own page")(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _fields(request: Request) -> dict[str, str]:
    return {name: request.query_params[name] for name in FIELDS if name in request.query_params}


def _answer(content: Any) -> Response:
    return JSONResponse(content, headers=_HEADERS)


def _explain(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _refuse(error.status_code, error.detail)
    if isinstance(error, FileNotFoundError):  # removed while it was asked for, or by another program
        return _refuse(404, GONE)
    if isinstance(error, OSError):
        return _refuse(507, one_line(error))
    return _refuse(413 if "larger than" in str(error) else 422, in_flags(str(error)))


def _refuse(status: int, reason: str) -> Response:
    return JSONResponse({"error": f"{reason[:1].upper()}{reason[1:]}."}, status, headers=_HEADERS)


if __name__ == "__main__":
    run(main)
