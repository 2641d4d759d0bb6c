"""The command ``isr-jax completion SHELL``: a script that completes the command line, or a manual page.

Both are made from what the commands themselves read (`isr_jax.command_line.parser_of`), by shtab and argparse-manpage.
"""

import argparse
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from isr_jax.__main__ import COMMANDS, EXTRAS, command_main, run
from isr_jax.command_line import Positional, arg, parse_arguments, parser_of
from isr_jax.version import package_version

WHAT = "single-image super-resolution by an unrolled solver"
INSTALL = {
    "bash": "isr-jax completion bash > ~/.local/share/bash-completion/completions/isr-jax",
    "zsh": "isr-jax completion zsh > ~/.zfunc/_isr-jax (a folder of $fpath)",
    "fish": "isr-jax completion fish > ~/.config/fish/completions/isr-jax.fish",
    "man": "isr-jax completion man > ~/.local/share/man/man1/isr-jax.1",
}
_MODELS = {
    "bash": "_isr_jax_models",
    "zsh": "_isr_jax_models",
    "fish": "(__fish_complete_path (commandline -ct)) {names}",
}
_PREAMBLE = {
    "bash": '_isr_jax_models() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}',
    "zsh": "_isr_jax_models() {{ _alternative 'models:model:({names})' 'files:file:_files' }}",
    "fish": "",
}
_OF_TRAIN = {"--workdir": "The run folder.", "--follow": "Show a run that another process trains."}
"""What `isr-jax train` reads before its fields."""


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """The arguments of the command."""

    shell: Annotated[Literal["bash", "zsh", "fish", "man"], Positional, arg(metavar="{bash,zsh,fish,man}")]
    """The shell whose script is written to standard output; man: the manual page."""


def main(argv: list[str] | None = None) -> None:
    """Prints the script or the page."""
    options = parse_arguments(
        CompletionOptions,
        argv,
        prog="isr-jax completion",
        description=f"Completes the command line in a shell. To install it: {'; '.join(INSTALL.values())}.",
    )
    if options.shell == "man":
        from argparse_manpage.manpage import Manpage

        page = Manpage(_program())
        page.manual = "isr_jax"
        print(str(page).replace("\nisr\\-jax\n", f"\nisr\\-jax \\- {WHAT}\n", 1))  # what apropos looks for
        return
    import shtab

    from isr_jax.models.model_file import shipped_models

    names = " ".join([*shipped_models(), "bicubic"])
    models = {shell: text.format(names=names) for shell, text in _MODELS.items()}
    preamble: Any = {shell: text.format(names=names) for shell, text in _PREAMBLE.items()}
    program = _program(files=shtab.FILE, models=models)
    print(shtab.complete(program, options.shell, preamble=preamble))


def _program(files: Any = None, models: Any = None) -> argparse.ArgumentParser:
    """Returns all commands as one parser; what completes files and models is put on the arguments that are some."""
    program = argparse.ArgumentParser("isr-jax", description=WHAT)
    program.add_argument("--version", action="version", version=f"isr-jax {package_version()}", help="Say the version.")
    commands: Any = program.add_subparsers(metavar="COMMAND", dest="command")
    for name, what in COMMANDS.items():
        try:
            parser = parser_of(command_main(name))
        except ModuleNotFoundError as error:  # of an extra
            if not any(error.name in packages for packages in EXTRAS.values()):
                raise
            continue
        if name == "train":
            parser.add_argument("config", nargs="?", metavar="CONFIG.py", help="The configuration.")
            for option, said in _OF_TRAIN.items():
                parser.add_argument(option, metavar="RUN", help=said)
            parser.add_argument("--plan", action="store_true", help="Say what would be trained, and what it takes.")
        added = commands.add_parser(name, parents=[parser], add_help=False, help=what, description=what)
        for action in added._actions:
            if words := re.search(r"\{(.+?)\}", str(action.metavar)):
                action.choices = words[1].split(",")
            elif action.nargs != 0 and files is not None:
                action.complete = models if action.dest in ("model", "what") else files  # pyright: ignore
    return program


if __name__ == "__main__":
    run(main)
