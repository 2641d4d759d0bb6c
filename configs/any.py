"""python -m isr_jax.train configs/any.py --workdir runs/any --data.train FOLDER [FOLDER ...]

isr-any: one model for any known blur, noise and JPEG quality at x1 to x4; each patch has a physics of its own, and the
solver is given it. Three solutions in closed form, then four times with the same weights: a deep ERD at LR resolution,
whose features are carried on, and a data step. 830,716 parameters; 2,435, 624, 289 and 172 thousand MAC per HR pixel at
x1, x2, x3 and x4. With `--model.num-stages 1 --model.prior.no-carry-features` it is a quarter of that, and 0.1 to 0.4
dB less (isr-any-free is such a one); what that has learned is a start for four. LR patches are rounded as files are;
experiments/known_blur.py cuts off instead, which makes its pictures half a grey level darker and costs some 0.01 dB
there.
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
        scales=(1, 2, 3, 4),
        num_stages=4,
        physics="blur",
        data_step="closed_form",
        data_step_place="after",
        data_weight=(1e-3, 1e-3),
        start_weights=(1e-7, 1e-5, 1e-3),
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
            error_plane=True,
            carry_features=True,
        ),
    ),
    data=DataConfig(
        patch_size=24,
        scale_cycle=(4, 2, 3, 4, 2, 3, 1),
        batch_size=16,
        placement="memory",
        sampling="texture",
        candidates=2,
        degradation=DegradationConfig(
            bicubic=2.5,
            gaussian=4.0,
            motion=4.0,
            box=1.0,
            noise_free=0.6,
            noise_std=(0.0, 25.0),
            jpeg_free=0.8,
            jpeg_quality=(10.0, 95.0),
            jpeg_subsampled=0.5,
            border="periodic",
        ),
    ),
    loss=LossConfig(kind="l1"),
    optimizer=OptimizerConfig(kind="muon", b2=0.99, weight_decay=0.1, clip_norm=0.1, ema_decay=0.999),
    schedule=ScheduleConfig(kind="cosine", learning_rate=1e-3, warmup_steps=200),
    eval=EvalConfig(every=1000, log_every=50),
    steps=40_000,
)
