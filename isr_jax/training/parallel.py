"""Data parallelism: where the per-device steps are mapped over devices, and processes find each other.

A step is written for one device, and averages over the axis `AXIS` what devices must agree on. Only this module
knows how it is mapped: by `jax.shard_map`, or by `jax.pmap`, which is in maintenance mode but still wanted.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from isr_jax.config import ConfigError, ParallelConfig, UserError

AXIS = "devices"
"""Name of the mapped axis."""


class Parallel(NamedTuple):
    """The devices of a run, of all processes, in one order."""

    devices: tuple[jax.Device, ...]  # pyright: ignore[reportInvalidTypeForm]
    mapping: str

    @property
    def size(self) -> int:
        """Devices over all processes."""
        return len(self.devices)

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """The devices as a one-dimensional mesh."""
        return jax.make_mesh((self.size,), (AXIS,), axis_types=(AxisType.Auto,), devices=self.devices)

    def replicate(self, tree: Any) -> Any:
        """Puts a copy of host or device arrays on every device."""
        sharding = NamedSharding(self.mesh, PartitionSpec())
        # Through the host: a copy of its own, which may be donated, and no weak types, which would compile twice.
        tree = jax.tree.map(np.asarray, jax.device_get(tree))
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), tree)

    def shard(self, batch: Any) -> Any:
        """Spreads this process's share of a batch over its devices, along the first axis."""
        if self.mapping == "pmap":
            local = self.size // jax.process_count()
            split = jax.tree.map(lambda a: a.reshape(local, a.shape[0] // local, *a.shape[1:]), batch)
            own = [device for device in self.devices if device.process_index == jax.process_index()]
            mesh = jax.make_mesh((local,), (AXIS,), axis_types=(AxisType.Auto,), devices=own)
            return jax.device_put(split, NamedSharding(mesh, PartitionSpec(AXIS)))
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), batch)

    def map_steps(
        self,
        steps: Callable[..., tuple[Any, Any, Any]],
        *,
        sharded: bool,
        compiler_options: dict[str, str] | None = None,
    ) -> Callable[..., Any]:
        """Maps `steps(state, going, source, count)` over the devices, and compiles it; the state is donated.

        Args:
          steps: For one device, as `isr_jax.training.step.repeat_step` makes it; its results are equal on all devices.
          sharded: Whether the source is a batch, spread by `shard`, or the same on all devices.
          compiler_options: What XLA is told; `jax.pmap` cannot tell it.
        Returns: The function of the source and of the other arguments, replicated.
        """
        if self.mapping == "pmap":
            options = {"axis_name": AXIS, "out_axes": None, "devices": self.devices, "donate_argnums": 0}
            if sharded:
                return jax.pmap(steps, in_axes=(None, None, 0, None), **options)
            # pmap wants something to map over.
            lanes = self.shard(np.arange(self.size // jax.process_count()))
            mapped = jax.pmap(lambda *args: steps(*args[:-1]), in_axes=(None, None, None, None, 0), **options)
            return lambda *args: mapped(*args, lanes)
        everywhere = PartitionSpec()
        mapped = jax.shard_map(
            steps,
            mesh=self.mesh,
            in_specs=(everywhere, everywhere, PartitionSpec(AXIS) if sharded else everywhere, everywhere),
            out_specs=everywhere,
            check_vma=False,  # as with pmap: gradients are local until the step averages them
        )
        # Pinned: otherwise the second call, on the first one's output, would compile again.
        pinned = NamedSharding(self.mesh, everywhere)
        return jax.jit(mapped, donate_argnums=0, out_shardings=pinned, compiler_options=compiler_options)


def to_host(tree: Any) -> Any:
    """Returns replicated arrays as NumPy arrays."""
    return jax.tree.map(lambda a: np.asarray(a.addressable_data(0)), tree)


def local_part(batch: Any) -> Any:
    """Returns what this process holds of a batch that `Parallel.shard` spread, as NumPy arrays."""

    def gather(pixels: Any) -> np.ndarray:
        parts = [np.asarray(shard.data) for shard in pixels.addressable_shards]
        return np.concatenate([part.reshape(-1, *part.shape[-3:]) for part in parts])

    return jax.tree.map(gather, batch)


def any_process(flag: bool) -> bool:
    """Whether the flag is set on any process; all processes must ask."""
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def of_process_0(values: Sequence[float]) -> list[float]:
    """Returns the numbers of process 0, in single precision; all processes must ask."""
    return [float(value) for value in multihost_utils.broadcast_one_to_all(np.array(values, np.float32))]


def start(config: ParallelConfig) -> Parallel:
    """Joins the other processes, if any, and chooses the devices.

    Raises:
      ConfigError: If there are fewer devices than asked for, or the coordinator's address cannot be used.
      UserError: If process 0 does not answer within `config.timeout` seconds.
    """
    if config.num_processes > 1 and not jax.distributed.is_initialized():
        _join(config)
    local = jax.local_device_count()
    if config.devices > local:
        raise ConfigError(f"parallel.devices is {config.devices}; this process has {local}")
    chosen = config.devices or local
    devices = [d for p in range(jax.process_count()) for d in jax.local_devices(process_index=p)[:chosen]]
    return Parallel(tuple(devices), config.mapping)


def _join(config: ParallelConfig) -> None:
    host, _, port = config.coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"parallel.coordinator is {config.coordinator!r}; it must be HOST:PORT, as localhost:12345")
    if config.process_index == 0:
        _check_port(config.coordinator, int(port))
    else:
        _await_process_0(config, host.strip("[]"), int(port))
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from `StopRequests`
    with _deadline(config):
        jax.distributed.initialize(
            config.coordinator,
            config.num_processes,
            config.process_index,
            initialization_timeout=config.timeout + 60,  # ours comes first
        )


def _check_port(coordinator: str, port: int) -> None:
    """Raises if the port cannot be listened to; jax would only log it."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
    except OSError as error:
        raise UserError(f"parallel.coordinator {coordinator}: {error.strerror}; choose another port") from None


def _await_process_0(config: ParallelConfig, host: str, port: int) -> None:
    """Waits until something listens at the coordinator's address: jax's own client ends the process where it fails."""
    end = time.monotonic() + config.timeout
    while True:
        try:
            socket.create_connection((host, port), timeout=max(0.1, end - time.monotonic())).close()
            return
        except OSError as error:
            if time.monotonic() >= end:
                raise UserError(
                    f"parallel.coordinator {config.coordinator}: process 0 did not answer within "
                    f"{config.timeout} s ({error.strerror or error}); start it, or mend the address"
                ) from None
        time.sleep(0.1)


@contextlib.contextmanager
def _deadline(config: ParallelConfig) -> Iterator[None]:
    """Ends the process with one line where the others do not come; jax would end it, too, with a stack trace."""

    def end() -> None:
        message = (
            f"isr-jax: parallel.coordinator {config.coordinator}: not all {config.num_processes} processes came within "
            f"{config.timeout} s; start the others, or mend parallel.num_processes\n"
        )
        os.write(2, message.encode())
        os._exit(1)

    timer = threading.Timer(config.timeout, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
