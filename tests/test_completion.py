"""Completion of the command line, in a real shell where there is one, and the manual page."""

import shutil
import subprocess

import pytest

from isr_jax import completion
from isr_jax.__main__ import COMMANDS, exit_code
from isr_jax.command_line import parser_of
from isr_jax.models.model_file import shipped_models
from isr_jax.upscale import main as upscale
from tests.blocked import run_command_blocked

TRY = """
source ./isr-jax.bash
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=(); _shtab_isr_jax; echo "${COMPREPLY[*]}"; }
try isr-jax ups
try isr-jax upscale --qu
try isr-jax upscale --model isr-lite-x4
try isr-jax export isr-lite-x4 --layout n
try isr-jax train --model.prior.bor
try isr-jax train --work
try isr-jax info not
"""


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda *words: said.append(" ".join(map(str, words))))
        return {shell: (completion.main([shell]), said.pop())[1] for shell in completion.INSTALL}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_completes_commands_options_models_choices_and_files(scripts, tmp_path):
    (tmp_path / "isr-jax.bash").write_text(scripts["bash"])
    (tmp_path / "notes.png").touch()
    done = subprocess.run(["bash", "-c", TRY], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "upscale",
        "--quality --quiet",
        "isr-lite-x4-free isr-lite-x4",
        "nchw nhwc",
        "--model.prior.border",
        "--workdir",
        "notes.png",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "man"])
def test_every_script_knows_every_command_and_its_options(shell, scripts):
    text = scripts[shell].replace("\\-", "-")
    assert all(command in text for command in COMMANDS)
    assert "json-lines" in text
    if shell != "man":
        assert all(name in text for name in shipped_models())
    if found := shutil.which(shell):
        if shell == "man":
            return
        check = ["--no-execute"] if shell == "fish" else ["-n"]
        assert subprocess.run([found, *check], input=scripts[shell], text=True, capture_output=True).stderr == ""


def test_the_manual_says_what_the_help_says(scripts):
    text = scripts["man"].replace("\\-", "-")
    assert text.startswith('.TH ISR-JAX "1"')
    assert ".SH NAME\nisr-jax - single-image super-resolution" in text
    assert "Stop the solver after so many stages: faster." in text


def test_a_parser_is_read_without_running_the_command(capfd):
    assert "--quality" in parser_of(upscale).format_help()
    assert capfd.readouterr() == ("", "")


def test_without_the_extra_one_line_names_it(capfd):
    done = run_command_blocked("completion", ("shtab",), "zsh")
    assert done.returncode == 1
    assert done.stderr == "isr-jax: shtab is not installed; run: pip install 'isr_jax[completion]'\n"
    assert exit_code(completion.main, ["csh"]) == 2
    assert "choose one of bash, zsh, fish, man" in capfd.readouterr().err
