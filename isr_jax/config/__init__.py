"""Configurations: frozen dataclasses that check themselves; neither jax nor tensorflow is imported.

A wrong command line and ``--help`` answer at once. Every error is a `ConfigError` of one line that names the field and
the remedy.
"""

from isr_jax.config.checks import ConfigError, UserError, config_from_dict, config_to_dict
from isr_jax.config.model import ERDConfig, ModelConfig, PriorConfig
from isr_jax.config.training import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LossConfig,
    OptimizerConfig,
    ParallelConfig,
    ScheduleConfig,
    SynthesisConfig,
    TrainConfig,
)

__all__ = [
    "CheckpointConfig",
    "ConfigError",
    "DataConfig",
    "ERDConfig",
    "EvalConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "PriorConfig",
    "ScheduleConfig",
    "SynthesisConfig",
    "TrainConfig",
    "UserError",
    "config_from_dict",
    "config_to_dict",
]
