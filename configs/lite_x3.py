"""python -m isr_jax.train configs/lite_x3.py --workdir runs/lite_x3 --data.train FOLDER [FOLDER ...]

isr-lite x3: the network of lite_x4.py, started from the shipped x4: only its first and last convolution depend on the
scale, and those are adapted (`isr_jax.solver.erd.for_other_scale`). Its figures are in docs/models/isr-lite-x3.md.
"""

from isr_jax.config import (
    CheckpointConfig,
    DataConfig,
    ERDConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

CONFIG = TrainConfig(
    model=ModelConfig(
        scale=3,
        num_stages=1,
        physics="bicubic",
        learned_step=True,
        final_data_step=True,
        extrapolation=False,
        projection=False,
        clip=False,
        prior=ERDConfig(
            features=48,
            num_blocks=14,
            feedback_steps=0,
            kernel_size=3,
            border="zero",
            weight_norm=False,
            first_shortcut=True,
            resolution="lr",
        ),
    ),
    data=DataConfig(
        patch_size=32,
        batch_size=8,
        placement="memory",
    ),
    loss=LossConfig(kind="l1"),
    optimizer=OptimizerConfig(kind="muon", b2=0.99, weight_decay=0.1, clip_norm=0.1, ema_decay=0.999),
    schedule=ScheduleConfig(kind="cosine", learning_rate=7e-4, warmup_steps=200),
    checkpoint=CheckpointConfig(init_from="isr-lite-x4"),
    eval=EvalConfig(every=1000, log_every=50),
    steps=20_000,
)
