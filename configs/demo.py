"""A small model for x3, trained in about three minutes on two cores: what `make demo` runs.

    isr-jax train configs/demo.py --workdir runs/demo/small_x3 --data.train FOLDER --eval.data FOLDER

Eight photographs are too few for a general model: this shows the way, not what the method can do. A slow machine stops
after four minutes with what it has; the same command goes on from there.
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
        extrapolation=False,
        projection=False,
        clip=False,
        prior=ERDConfig(
            features=32,
            num_blocks=6,
            feedback_steps=0,
            kernel_size=3,
            border="zero",
            weight_norm=False,
            first_shortcut=True,
            resolution="lr",
        ),
    ),
    data=DataConfig(
        train=("runs/demo/photos/train",),
        cache_dir="runs/demo/cache",
        patch_size=24,
        batch_size=16,
        placement="memory",
        candidates=2,
    ),
    loss=LossConfig(kind="l1"),
    optimizer=OptimizerConfig(kind="adam", b2=0.99, clip_norm=1.0, ema_decay=0.99),
    schedule=ScheduleConfig(kind="cosine", learning_rate=2e-3, warmup_steps=50, final_fraction=0.02),
    checkpoint=CheckpointConfig(every=400),
    eval=EvalConfig(data=("runs/demo/photos/validation",), every=400, log_every=20),
    steps=1200,
    max_minutes=4.0,
)
