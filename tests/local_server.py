"""`isr-jax serve` as a process of its own, on a free port."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def local_server(*arguments: str | Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """Yields its address and the process, which is ended afterwards; the arguments begin with models."""
    command = [sys.executable, "-m", "isr_jax.serve", "--port", "0", "--model", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.match(r"(http://127\.0\.0\.1:\d+)/", process.stdout.readline())
            assert found
            yield found[1], process
        finally:
            process.terminate()
        assert process.wait(timeout=30) in (0, -15, 130)
