"""The program's frame: exit codes, one line for each failure, and a help that answers at once."""

import os
import subprocess
import sys

import pytest

from isr_jax import train
from isr_jax.__main__ import COMMANDS, dispatch, exit_code
from isr_jax.config import ConfigError, UserError


def raising(error: BaseException):
    def main(argv: list[str] | None = None) -> int | None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a.png: not a picture; remove it"), 1, "isr-jax: a.png: not a picture; remove it\n"),
        (ConfigError("scale is 0; choose 2, 3 or 4"), 2, "isr-jax: scale is 0; choose 2, 3 or 4\n"),
        (UserError("two\nlines"), 1, "isr-jax: two lines\n"),
        (ConfigError("`num_stages` is 0; `a.b_c`, too"), 2, "isr-jax: --num-stages is 0; --a.b-c, too\n"),
        (KeyboardInterrupt(), 130, "isr-jax: interrupted\n"),
        (
            ModuleNotFoundError("No module named 'tensorflow.data'", name="tensorflow.data"),
            1,
            "isr-jax: tensorflow is not installed; run: pip install 'isr_jax[train]'\n",
        ),
        (PermissionError(13, "Permission denied", "/out.png"), 1, "isr-jax: /out.png: Permission denied\n"),
        (OSError(28, "No space left on device"), 1, "isr-jax: No space left on device\n"),
        (MemoryError("cannot allocate 9 GiB"), 1, "isr-jax: not enough memory: cannot allocate 9 GiB\n"),
    ],
)
def test_errors_of_the_user_end_with_one_line(error, code, line, capsys):
    assert exit_code(raising(error)) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'jaxx'", name="jaxx"), ValueError("a bug")])
def test_bugs_keep_their_traceback(error):
    with pytest.raises(type(error)):
        exit_code(raising(error))


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_success_is_zero(returned, code):
    assert exit_code(lambda argv: returned, []) == code


def test_help_lists_the_commands(capsys):
    assert dispatch(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    assert dispatch([]) == 2


def test_unknown_command():
    with pytest.raises(ConfigError, match="'upscal'.*upscale"):
        dispatch(["upscal"])


def test_help_imports_no_array_library():
    code = (
        "import sys; from isr_jax.__main__ import dispatch; dispatch(['--help']);"
        "sys.exit(any(name in sys.modules for name in ('jax', 'numpy', 'tensorflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_module_run_by_itself_names_the_missing_extra(tmp_path):
    # A command's module imports its packages before it can call run().
    (tmp_path / "isr_jax").mkdir()
    (tmp_path / "isr_jax/command.py").write_text("import isr_jax.__main__\nraise ModuleNotFoundError(name='optax')")
    code = f"import isr_jax, runpy; isr_jax.__path__.append({str(tmp_path / 'isr_jax')!r}); "
    code += "runpy.run_module('isr_jax.command', run_name='__main__', alter_sys=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "isr-jax: optax is not installed; run: pip install 'isr_jax[train]'\n"
    assert done.returncode == 1


def test_the_process_ends_with_the_exit_code():
    done = subprocess.run([sys.executable, "-m", "isr_jax", "upscal"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("isr-jax: unknown command 'upscal'")
    assert done.stderr.count("\n") == 1


def test_the_help_of_train_is_quick_quiet_and_plain_ascii_will_do():
    code = (
        "import sys; sys.argv = ['train', '--help']\n"
        "from isr_jax.train import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'jax', 'tensorflow', 'orbax', 'flax'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--model.prior.features" in done.stdout
    assert "--optimizer.clip-norm" in done.stdout


def test_train_without_a_configuration_is_an_error():
    done = subprocess.run([sys.executable, "-m", "isr_jax.train"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("isr-jax: a configuration is missing; usage: isr-jax train CONFIG.py")
    assert done.stderr.count("\n") == 1


def test_train_without_a_configuration_needs_a_run_that_has_one(tmp_path, capfd):
    assert exit_code(train.main, ["--seed", "3"]) == 2
    assert "a configuration is missing; usage:" in capfd.readouterr().err
    assert exit_code(train.main, ["--workdir", str(tmp_path / "run")]) == 2
    assert "holds no config.json, no run was begun there: give a configuration" in capfd.readouterr().err
    (tmp_path / "config.json").write_text('{"steps": -1}')
    assert exit_code(train.main, ["--workdir", str(tmp_path)]) == 2
    said = capfd.readouterr().err
    assert said.startswith(f"isr-jax: {tmp_path}/config.json: not a configuration that this isr_jax reads (steps")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "config.json"]


@pytest.mark.slow
def test_what_tensorflow_logs_at_its_import_is_off():
    quiet = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", "import isr_jax.training.datasets"], capture_output=True, env=quiet)
    assert (done.returncode, done.stderr) == (0, b"")
