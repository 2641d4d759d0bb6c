"""The program ``isr-jax``: one command a module, imported only when it is asked for.

Every command ends the same way: 0 when done, 2 for a command line or configuration that cannot be used, 1 for
anything else the user can mend, each with one line on standard error; 3 where a command over many pictures has done a
part of them. A traceback is a bug. The library's errors name its arguments, in backquotes; here they become the command
line's flags.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from isr_jax.config import ConfigError, UserError
from isr_jax.config.checks import did_you_mean
from isr_jax.version import package_version

COMMANDS = {
    "train": "train a model on photographs: isr-jax train CONFIG.py --workdir RUN",
    "pack": "pictures to train from, with their licences, as one file: isr-jax pack FOLDER... -o train.pack",
    "decay": "a finished model from a run, which itself goes on: isr-jax decay RUN -o NEW --steps 2000",
    "pack-run": "a run as one file, from which it goes on elsewhere: isr-jax pack-run RUN -o run.tar",
    "plot": "draw the curves of a run: isr-jax plot RUN",
    "replay": "repeat a training step that was not finite: isr-jax replay RUN/nonfinite_STEP",
    "evaluate": "PSNR and SSIM on a folder of pictures: isr-jax evaluate --model MODEL --data DIR",
    "upscale": "super-resolve pictures: isr-jax upscale INPUT... --output PATH --model MODEL",
    "inspect": "what happened to pictures, blur, noise, JPEG: isr-jax inspect FILE...",
    "serve": "a local page to super-resolve pictures in the browser: isr-jax serve",
    "models": "what models there are, and what for: isr-jax models",
    "info": "all that is known of a model, a run or a picture: isr-jax info FILE",
    "convert": "PyTorch weights to a model file, and back: isr-jax convert IN OUT",
    "export": "a model as one ONNX or StableHLO file for other programs: isr-jax export MODEL out.onnx",
    "completion": "complete the command line in your shell, or a manual page: isr-jax completion bash",
}

EXTRAS = {
    "train": ("matplotlib", "optax", "orbax", "tensorboardX", "tensorflow", "tensorflow_datasets", "tqdm"),
    "serve": ("anyio", "starlette", "uvicorn"),
    "jpeg": ("jpeglib",),
    "onnx": ("onnx",),
    "completion": ("argparse_manpage", "shtab"),
    "demo": ("skimage", "sklearn"),
}
"""Which extra of the package brings which import."""

Main = Callable[[list[str] | None], int | None]


def exit_code(main: Main, argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code, with one line on standard error unless that is 0.

    Args:
      main: The command; takes the arguments behind its name (None: those of the process), returns an exit code or None.
      argv: What to call it with.
    """
    try:
        code = main(argv)
        sys.stdout.flush()
        return code or 0
    except BaseException as error:
        code = explain(error)
        if code is None:
            raise
        return code


def explain(error: BaseException) -> int | None:
    """Says on standard error, in one line, what the user can mend; returns the exit code, None for a bug."""
    match error:
        case ConfigError():
            return _fail(str(error), 2)
        case UserError():
            return _fail(str(error), 1)
        case KeyboardInterrupt():
            return _fail("interrupted", 130)
        case BrokenPipeError():  # the reader of our output has left, as in `isr-jax ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case ModuleNotFoundError():
            missing = (error.name or "").partition(".")[0]
            for extra, packages in EXTRAS.items():
                if missing in packages:
                    return _fail(f"{missing} is not installed; run: pip install 'isr_jax[{extra}]'", 1)
        case OSError(filename=str(name)):
            return _fail(f"{name}: {error.strerror}", 1)
        case OSError(strerror=str(reason)):  # of an open file, such as a full disk: Python does not say which
            return _fail(reason, 1)
        case MemoryError():
            return _fail(f"not enough memory: {error}".removesuffix(": "), 1)
    return None


def in_flags(message: str) -> str:
    """Returns a message of the library with its arguments as flags: `num_stages` becomes --num-stages."""
    return re.sub(r"`([a-z][a-z_.]*)`", lambda match: f"--{match[1].replace('_', '-')}", message)


def run(main: Main) -> NoReturn:
    """Ends the process with the exit code of a command: the last line of every command's module."""
    sys.exit(exit_code(main))


def dispatch(argv: list[str] | None = None) -> int | None:
    """Runs the command that the first argument names."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print("usage: isr-jax COMMAND [ARGUMENT ...]\n")
        print("\n".join(f"  {name:11}{what}" for name, what in COMMANDS.items()))
        print("\nisr-jax COMMAND --help explains a command.")
        return 0 if argv else 2
    if argv[0] == "--version":
        print("isr_jax", package_version())
        return 0
    if argv[0] not in COMMANDS:
        nearest = did_you_mean(argv[0], COMMANDS)
        raise ConfigError(f"unknown command {argv[0]!r}{nearest}; the commands are {', '.join(COMMANDS)}")
    return command_main(argv[0])(argv[1:])


def command_main(name: str) -> Main:
    """Imports a command."""
    module = "show_models" if name == "models" else name.replace("-", "_")  # isr_jax.models is a folder
    return importlib.import_module(f"isr_jax.{module}").main


def _watch_imports() -> None:
    """Explains what fails before `run` is reached: a missing package that `python -m isr_jax.train` imports."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or not spec.name.startswith("isr_jax."):
        return  # a library's user wants the traceback

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if explain(error) is None:
            sys.__excepthook__(kind, error, traceback)

    sys.excepthook = hook


def _fail(message: str, code: int) -> int:
    print("isr-jax:", " ".join(in_flags(message).split()), file=sys.stderr)
    return code


def cli() -> NoReturn:
    """Entry point of the installed program."""
    run(dispatch)


if __name__ == "isr_jax.__main__":
    _watch_imports()

if __name__ == "__main__":
    cli()
