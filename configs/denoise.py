"""python -m isr_jax.train configs/denoise.py --workdir runs/denoise --data.train FOLDER [FOLDER ...]

Pretrains the ERD of the paper as a denoiser: one stage without a data term, noise levels 0 to 15 of 255. What
shares one such ERD starts from it: isr-jax train configs/paper_x4.py --workdir RUN --checkpoint.init-from runs/denoise
--eval.data wants noisy pictures in LRx1/ beside HR/. Not measured beyond trying it: it needs an accelerator.
"""

from isr_jax.config import (
    CheckpointConfig,
    DataConfig,
    DegradationConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

NOISE = DegradationConfig(bicubic=1.0, kernel_size=1, noise_std=(0.0, 15.0), told="none", told_noise=False)
CONFIG = TrainConfig(
    model=ModelConfig(scale=1, num_stages=1, physics="none", extrapolation=False, radius_range=(1.0, 1.0)),
    data=DataConfig(patch_size=64, batch_size=16, degradation=NOISE),
    loss=LossConfig(kind="l1"),
    optimizer=OptimizerConfig(kind="amsgrad"),
    schedule=ScheduleConfig(kind="multistep", learning_rate=1e-3, milestones=(0.5, 0.75), factor=0.1),
    checkpoint=CheckpointConfig(keep=3),
    eval=EvalConfig(every=5000, log_every=100),
    steps=100_000,
)
