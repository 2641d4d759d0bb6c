"""python -m isr_jax.train configs/any_blur_x4.py --workdir runs/any_blur --data.train FOLDER [FOLDER ...]

One deep ERD between two data steps in closed form, x4, for any known blur and noise: each patch has a physics of its
own, and the solver is given it. Use it with isr-jax upscale --model runs/any_blur --blur 1.6 --noise 2. An example of
training on physics; not measured.
"""

from isr_jax.config import (
    DataConfig,
    DegradationConfig,
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
        scale=4,
        num_stages=1,
        physics="blur",
        data_step="closed_form",
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
            noise_plane=True,
        ),
    ),
    data=DataConfig(
        patch_size=32,
        batch_size=8,
        placement="memory",
        degradation=DegradationConfig(
            bicubic=2.0,
            gaussian=4.0,
            motion=3.0,
            box=1.0,
            noise_free=0.5,
            noise_std=(0.0, 25.0),
            rounding="floor",
            border="periodic",
        ),
    ),
    loss=LossConfig(kind="l1"),
    optimizer=OptimizerConfig(kind="muon", b2=0.99, clip_norm=0.1, ema_decay=0.999),
    schedule=ScheduleConfig(kind="cosine", learning_rate=1e-3, warmup_steps=200),
    eval=EvalConfig(every=1000, log_every=50),
    steps=40_000,
)
