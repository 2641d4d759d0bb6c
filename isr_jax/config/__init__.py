"""Configurations: frozen dataclasses that check themselves; neither jax nor tensorflow is imported.

A wrong command line and ``--help`` answer at once. Every error is a `ConfigError` of one line that names the field and
the remedy.
"""

from typing import Any

from isr_jax.config.checks import ConfigError, UserError
from isr_jax.config.degradation import SYNTHESIS_REMOVED, DegradationConfig
from isr_jax.config.dictionaries import config_from_dict, config_to_dict, read_config
from isr_jax.config.model import ERDConfig, ModelConfig, PriorConfig
from isr_jax.config.optimization import LossConfig, OptimizerConfig, ScheduleConfig
from isr_jax.config.training import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    ParallelConfig,
    TrainConfig,
)

__all__ = [
    "CheckpointConfig",
    "ConfigError",
    "DataConfig",
    "DegradationConfig",
    "ERDConfig",
    "EvalConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "PriorConfig",
    "ScheduleConfig",
    "TrainConfig",
    "UserError",
    "config_from_dict",
    "config_to_dict",
    "read_config",
]


def __getattr__(name: str) -> Any:
    if name == "SynthesisConfig":
        raise ConfigError(f"SynthesisConfig, data.synthesis, {SYNTHESIS_REMOVED}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
