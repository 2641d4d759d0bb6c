"""The compilation cache serves the second start; freed memory is kept where the C library is glibc."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from isr_jax.startup import use_compilation_cache, user_cache

PROGRAM = """
import resource, sys
from isr_jax.startup import prepare_process, use_compilation_cache
prepare_process()
import jax, jax.numpy as jnp
print(use_compilation_cache(), jax.config.jax_enable_compilation_cache)
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
compiled = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jnp.sort(jnp.sin(y) @ y.T, axis=0), x))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(compiled(jnp.eye(8)).shape)
print("/jax/compilation_cache/cache_hits" in events)
"""


def start(tmp_path: Path, **variables: str) -> list[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ISR_JAX_COMPILATION", "JAX_COMPILATION"))}
    environment = (
        inherited | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])} | variables
    )
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_the_second_start_finds_the_program(tmp_path):
    folder = str(tmp_path / "isr_jax")
    assert start(tmp_path) == [f"{folder} True", "(8, 8)", "False"]
    assert any(Path(folder).iterdir())
    assert start(tmp_path) == [f"{folder} True", "(8, 8)", "True"]


def test_what_jax_was_told_of_its_least_time_is_kept_and_its_own_is_not():
    name, told = "jax_persistent_cache_min_compile_time_secs", jax.config.jax_persistent_cache_min_compile_time_secs
    try:
        for given, kept in ((0.0, 0.0), (7.0, 7.0), (1.0, 0.2)):
            jax.config.update(name, given)
            use_compilation_cache()
            assert getattr(jax.config, name) == kept
    finally:
        jax.config.update(name, told)


@pytest.mark.slow
def test_the_cache_can_be_elsewhere_or_off(tmp_path):
    elsewhere = str(tmp_path / "elsewhere")
    assert start(tmp_path, ISR_JAX_COMPILATION_CACHE=elsewhere)[0] == f"{elsewhere} True"
    assert start(tmp_path, JAX_COMPILATION_CACHE_DIR=elsewhere)[0] == f"{elsewhere} True"
    assert start(tmp_path, ISR_JAX_COMPILATION_CACHE="off")[0] == "None False"
    (tmp_path / "file").write_text("")
    assert start(tmp_path, ISR_JAX_COMPILATION_CACHE=str(tmp_path / "file" / "folder"))[0] == "None True"


def test_a_command_may_name_a_folder_and_a_program_is_found_where_that_has_moved(tmp_path):
    first, second = PROGRAM.replace("prepare_process()", "prepare_process(cache=Path(sys.argv[1]))"), []
    first = "from pathlib import Path\n" + first.replace(
        "use_compilation_cache(),", "use_compilation_cache(Path(sys.argv[1])),"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ISR_JAX_COMPILATION", "JAX_COMPILATION"))}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    for folder in (tmp_path / "a" / "cache", tmp_path / "b" / "cache"):
        if second:
            (tmp_path / "a").rename(tmp_path / "b")
        command = [sys.executable, "-c", first, str(folder)]
        second.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert second[0].splitlines() == [f"{tmp_path}/a/cache True", "(8, 8)", "False"]
    assert second[1].splitlines() == [f"{tmp_path}/b/cache True", "(8, 8)", "True"]


@pytest.mark.parametrize("given", ["", "relative", "../up"])
def test_an_empty_or_relative_xdg_cache_home_does_not_count(given, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert user_cache() == tmp_path / ".cache" / "isr_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert user_cache() == Path("/elsewhere/isr_jax")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is kept on Linux only")
@pytest.mark.parametrize(("options", "expected"), [("", "< 1000"), ("large_blocks=False", "> 10_000")])
def test_large_blocks_are_reused_or_handed_back(options, expected):
    program = (
        "import ctypes, resource\n"
        "from isr_jax.startup import keep_freed_memory\n"
        f"import sys; sys.exit(0) if not keep_freed_memory({options}) else None\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def use():\n    block = bytearray(1 << 26)\n    block[:] = b'x' * len(block)\n"
        "use(); first = faults(); use(); use()\n"
        f"assert faults() - first {expected}, faults() - first\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_what_jax_logs_below_errors_is_off():
    program = (
        "import logging\nfrom isr_jax.startup import prepare_process\nprepare_process(compilation_cache=False)\n"
        "import jax\nlogger = logging.getLogger('jax._src.xla_bridge')\n"
        "logger.warning('no GPU here')\nlogger.error('no devices')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "no devices" in done.stderr
    assert "no GPU here" not in done.stderr
