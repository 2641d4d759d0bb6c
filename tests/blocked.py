"""A Python process in which some packages cannot be imported, as where they are not installed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_blocked(program: str, packages: tuple[str, ...], *arguments: str | Path, **options: Any) -> Any:
    """Runs Python code with `packages` missing and `arguments` in sys.argv[1:]; returns a CompletedProcess of text."""
    block = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
    command = [sys.executable, "-c", block + program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    settings = {"capture_output": True, "text": True, "timeout": 300, **options}
    return subprocess.run(command, env=environment, **settings)


def run_command_blocked(command: str, packages: tuple[str, ...], *arguments: str | Path, **options: Any) -> Any:
    """Runs a command of isr-jax with `packages` missing, to its exit code."""
    program = "from isr_jax.__main__ import dispatch, run\nrun(dispatch)"
    return run_blocked(program, packages, command, *arguments, **options)
