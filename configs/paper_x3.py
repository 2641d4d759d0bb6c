"""python -m isr_jax.train configs/paper_x3.py --workdir runs/paper_x3 --eval.data FOLDER

ISRResCNet x3, the released network, on DIV2K, which TFDS fetches at the first run.
The training settings are a reconstruction: no training code was published. They follow the works the authors say
theirs is based on (iterative demosaicking and burst photography by the same solver, Kokkinos & Lefkimmiatis 2018,
2019): Adam (amsgrad), L1, truncated back-propagation with two updates a batch, the first window weighted by a half.
Not measured: it needs an accelerator.
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
    model=ModelConfig(scale=3),
    data=DataConfig(train=("div2k/bicubic_x3",), patch_size=43, batch_size=16),
    loss=LossConfig(kind="l1", window=5, depth=5, earlier_weight=0.5),
    optimizer=OptimizerConfig(kind="amsgrad"),
    schedule=ScheduleConfig(kind="multistep", learning_rate=1e-4, milestones=(0.5, 0.75), factor=0.1),
    checkpoint=CheckpointConfig(keep=3),
    eval=EvalConfig(every=5000, log_every=100),
    steps=300_000,
)
