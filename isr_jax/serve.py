"""The command ``isr-jax serve``: a local page to drop a picture on, look at the result, and download it.

The page and its pictures stay on this computer unless --host says otherwise. One picture is worked on at a time, the
others wait. Other web sites that the browser has open cannot use the server: a request must name this host, and an
upload has a content type that browsers send to strangers only with their consent.
"""

import errno
import math
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from isr_jax.__main__ import in_flags, run
from isr_jax.benchmark.web import render
from isr_jax.command_line import parse_arguments
from isr_jax.config import ConfigError, UserError
from isr_jax.inference.conditions import MAX_BLUR
from isr_jax.models.model_file import describe_model, shipped_models
from isr_jax.physics.names import needs_kernel
from isr_jax.pictures.encoding import encode_image
from isr_jax.pictures.images import read_image
from isr_jax.startup import prepare_process

if TYPE_CHECKING:
    from isr_jax.inference.upscaler import Upscaler

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """The arguments of the command."""

    model: tuple[str, ...] = ()
    """Shipped names, model files or run folders to choose from; by default all shipped models."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but this computer's own lets others use the page."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    max_megabytes: int = 50
    """Largest file that is taken, MiB."""
    max_pixels: int = 4_000_000
    """Largest picture that is taken, before it is enlarged."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a model is asked beside the picture: the fields of the page."""

    name: str
    scales: tuple[int, ...]
    scale: int
    """That of `scales` which is chosen first."""
    blur: bool
    """Whether it wants to be told the blur."""
    noise: bool
    """Whether it makes use of a noise level."""

    @classmethod
    def of(cls, name: str) -> "Choices":
        """Reads them from a model's file.

        Raises:
          ConfigError: If there is no such model.
          UserError: If the file is not a model.
        """
        model = describe_model(name)
        config = model.config
        blur, scales = needs_kernel(config.physics), config.all_scales
        return cls(name=name, scales=scales, scale=config.scale, blur=blur, noise=model.uses_noise_std)

    def read(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Returns the arguments of `Upscaler.upscale_picture` that a request names; what is empty counts as absent.

        Raises:
          ConfigError: If the model does not take one of them.
        """
        words = {
            "scale": " or ".join(map(str, self.scales)),
            "blur": f"a width of 0 to {MAX_BLUR} pixels of the enlarged picture" if self.blur else "none",
            "noise": "a level of 0 to 255" if self.noise else "none",
        }
        known: dict[str, Any] = {}
        for key, takes in words.items():
            if not (text := given.get(key, "").strip()):
                continue
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            most = MAX_BLUR if key == "blur" else 255
            fits = number in self.scales if key == "scale" else takes != "none" and 0 <= number <= most
            if not fits:
                raise ConfigError(f"the {key} is {text!r}; {self.name} takes {takes}")
            known["noise_std" if key == "noise" else key] = number
        return known


def main(argv: list[str] | None = None) -> None:
    """Serves until it is interrupted."""
    config = parse_arguments(
        ServeConfig, argv, prog="isr-jax serve", description="A local page to super-resolve pictures in the browser."
    )
    if not 0 <= config.port < 2**16:
        raise ConfigError(f"--port {config.port}: a port is 0 (a free one) to 65535")
    prepare_process(large_blocks=False)
    app = make_app(config)
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listener = socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {config.port} is in use: give another with --port, or 0 for a free one") from error
        raise ConfigError(f"cannot listen on {config.host}, port {config.port}: {error}") from error
    host = f"[{config.host}]" if family == socket.AF_INET6 else config.host
    if config.host not in _LOOPBACK:
        print(f"isr-jax: WARNING: everyone who reaches {host} can use this page", file=sys.stderr)
    print(f"http://{host}:{listener.getsockname()[1]}/   (Ctrl-C ends it)", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def make_app(config: ServeConfig) -> Starlette:
    """Returns the web application.

    Raises:
      ConfigError: If there is no model, or one cannot be found.
      UserError: If a file is not a model.
    """
    names = config.model or tuple(shipped_models()[::-1])
    if not names:
        raise ConfigError("no model comes with this version: name one with --model")
    choices = {name: Choices.of(name) for name in names}
    models: dict[str, Upscaler] = {}
    page = render(
        "serve.html",
        data={"models": [*map(asdict, choices.values())], "max_blur": MAX_BLUR, "megabytes": config.max_megabytes},
    )
    one_at_a_time = anyio.Lock()

    def enlarge(name: str, data: bytes, known: dict[str, Any]) -> bytes:
        from isr_jax.inference.estimate import estimate_degradation  # here: the page must not wait for NumPy
        from isr_jax.inference.upscaler import load

        picture = read_image(data, max_pixels=config.max_pixels)
        if name not in models:
            models[name] = load(name)
        if choices[name].blur and not {"blur", "noise_std"} <= known.keys():
            known = known | estimate_degradation(picture, scale=known.get("scale", models[name].scale)).known(known)
        return encode_image(models[name].upscale_picture(picture, **known)[0], "PNG")

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=_HEADERS)

    async def upscale(request: Request) -> Response:
        name = request.query_params.get("model", names[0])
        if name not in names:
            return _refuse(404, f"no model {name}")
        if request.headers.get("content-type") != "application/octet-stream":
            return _refuse(415, "send the file as application/octet-stream")
        try:
            known = choices[name].read(request.query_params)
        except ConfigError as error:
            return _refuse(422, str(error))
        data = bytearray()
        try:
            async for part in request.stream():
                data += part
                if len(data) > config.max_megabytes * 2**20:
                    return _refuse(413, f"the file is larger than {config.max_megabytes} MiB")
        except ClientDisconnect:
            return _refuse(400, "the upload was broken off")
        async with one_at_a_time:
            if await request.is_disconnected():
                return _refuse(400, "nobody waits any more")
            start = time.perf_counter()
            try:
                result = await run_in_threadpool(enlarge, name, bytes(data), known)
            except UserError as error:
                return _refuse(422, in_flags(str(error)))
        print(f"{name}: {len(data)} bytes, {time.perf_counter() - start:.1f} s", file=sys.stderr)
        return Response(result, media_type="image/png", headers=_HEADERS)

    hosts = ["localhost", "127.0.0.1", "[::1]"] if config.host in _LOOPBACK else ["*"]
    return Starlette(
        routes=[Route("/", show), Route("/upscale", upscale, methods=["POST"])],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
    )


def _refuse(status: int, reason: str) -> Response:
    return JSONResponse({"error": f"{reason[:1].upper()}{reason[1:]}."}, status, headers=_HEADERS)


if __name__ == "__main__":
    run(main)
