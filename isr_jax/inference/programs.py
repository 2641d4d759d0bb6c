"""What compiling and running a program costs, and whether it fits into memory."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from isr_jax.inference.memory_limit import TooLarge

MAX_PROGRAMS = 64
"""Compiled programs that are kept, one for each set of shapes; the oldest goes first."""


class Program(NamedTuple):
    """A function compiled for some shapes."""

    compiled: jax.stages.Compiled
    needed_bytes: int
    """Memory that it takes."""
    sent_bytes: float
    """What the busiest device sends to others."""


class Programs:
    """Functions compiled for the shapes of their arguments, kept, and what they have cost."""

    def __init__(self, options: dict[str, str]):
        """Starts without any; `options` are the compiler's."""
        self.compilations = self.cache_hits = 0
        self.seconds = self.exchanged_bytes = 0.0
        self.bytes_of: dict[tuple[int, ...], int] = {}  # by the shape of the LR batch
        self.kept: dict[tuple, Program] = {}
        self.limit: float | int = math.inf  # bytes that a program may take
        self._options = options

    def run(
        self,
        function: Any,
        arguments: Sequence[Any],
        lr: jax.Array,
        *static: Any,
        fetch: Callable[[Any], Any] = np.asarray,
        sent: Callable[[Any], float] = lambda jaxpr: 0.0,
    ) -> Any:
        """Runs a function on arrays on the devices and returns NumPy arrays.

        Args:
          function: Is called with the arguments and then with `static`.
          arguments: Pytrees of arrays.
          lr: The one whose shape names the program in `bytes_of`.
          static: What the program is compiled for beside shapes.
          fetch: Makes a NumPy array of an array on the devices.
          sent: Tells of a traced program how many bytes the busiest device sends.
        Raises:
          TooLarge: If it does not fit into memory, or needs more than `limit`.
        """
        leaves, structure = jax.tree.flatten(arguments[1:])  # the first is the model, always the same
        key = (lr.shape, function.__name__, static, structure, *map(np.shape, leaves))
        try:
            if key not in self.kept:
                if len(self.kept) == MAX_PROGRAMS:
                    del self.kept[next(iter(self.kept))]
                self.kept[key] = self._compile(function, arguments, static, sent)
            program = self.kept[key]
            if program.needed_bytes > self.limit:
                raise TooLarge(program.needed_bytes)  # else the system might end the process
            self.bytes_of[lr.shape] = program.needed_bytes
            start = time.perf_counter()
            result = jax.tree.map(fetch, program.compiled(*arguments))
            self.seconds += time.perf_counter() - start
            self.exchanged_bytes += program.sent_bytes
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise TooLarge from error
        return result

    def _compile(
        self,
        function: Any,
        arguments: Sequence[Any],
        static: Sequence[Any],
        sent: Callable[[Any], float],
    ) -> Program:
        traced = jax.jit(lambda *arrays: function(*arrays, *static)).trace(*arguments)
        program, from_cache = compile_program(traced.lower(), self._options)
        self.cache_hits += from_cache
        self.compilations += not from_cache
        return Program(program, needed_bytes(program), sent(traced.jaxpr))


def compile_program(lowered: jax.stages.Lowered, options: dict[str, str]) -> tuple[jax.stages.Compiled, bool]:
    """Compiles, told so, and returns whether the program came from JAX's cache on disk."""
    hits = _cache_hits()
    before = len(hits)
    return lowered.compile(compiler_options=dict[str, Any](options)), len(hits) > before


def needed_bytes(program: jax.stages.Compiled) -> int:
    """Returns the memory that a program takes while it runs; 0 where the backend does not say."""
    memory: Any = program.memory_analysis()
    if memory is None:
        return 0
    return memory.temp_size_in_bytes + memory.output_size_in_bytes + memory.argument_size_in_bytes


@functools.cache
def _cache_hits() -> list[str]:
    """Returns a list that grows with each program that JAX finds in its cache; listens from the first call on."""
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    return hits
