"""ISRResCNet x4, the released network: ten stages that share one ERD at HR resolution, 388,823 parameters.

    isr-jax train configs/paper_x4.py --workdir runs/paper_x4 --data.train DIV2K_train_HR --eval.data Set5

The training is a reconstruction (docs/method.md): none was published, and steps and learning rate are our choice.
Not measured.
"""

from isr_jax.config import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

CONFIG = TrainConfig(
    model=ModelConfig(scale=4),
    data=DataConfig(patch_size=32, batch_size=8),
    loss=LossConfig(kind="l1", window=5, earlier_weight=0.5),
    optimizer=OptimizerConfig(kind="amsgrad", ema_decay=0.999),
    schedule=ScheduleConfig(kind="multistep", learning_rate=1e-4, milestones=(0.5, 0.8), factor=0.1),
    checkpoint=CheckpointConfig(every=1000),
    eval=EvalConfig(every=5000, log_every=50),
    steps=300_000,
)
