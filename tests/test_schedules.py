import jax.numpy as jnp
import numpy as np
import pytest

from isr_jax.config import ConfigError, ScheduleConfig, TrainConfig
from isr_jax.training.schedules import first_difference


def test_wsd_warms_up_is_constant_and_falls_by_one_minus_the_root():
    config = ScheduleConfig(kind="wsd", learning_rate=2.0, warmup_steps=4, decay_steps=17, final_fraction=0.2)
    rate = config.build(100)
    expected = [0.5, 2, 2, 2, 2 * (1 - 0.8 * 0.5), 2 * (1 - 0.8 * 0.75), 2 * 0.2]
    np.testing.assert_allclose([rate(s) for s in (0, 3, 50, 83, 87, 92, 99)], expected, rtol=1e-6)


@pytest.mark.parametrize("learning_rate", [1e-3, 7e-4, 1.5e-3, 0.3])
def test_before_its_decay_wsd_is_constant_to_the_last_bit(learning_rate):
    same = {"learning_rate": learning_rate, "warmup_steps": 30}
    wsd = ScheduleConfig(kind="wsd", decay_steps=20, **same).build(1000)
    longer = ScheduleConfig(kind="wsd", decay_steps=50, final_fraction=0.3, **same).build(5000)
    constant = ScheduleConfig(kind="constant", **same).build(1)
    assert first_difference(wsd, constant, 981) is None
    assert first_difference(wsd, constant, 982) == first_difference(wsd, longer, 1000) == 981
    assert wsd(jnp.int32(980)) == np.float32(learning_rate)


def test_wsd_needs_a_length_in_steps_that_holds_its_parts():
    schedule = ScheduleConfig(kind="wsd", warmup_steps=5, decay_steps=10)
    assert TrainConfig(steps=15, schedule=schedule).steps == 15
    for length in ({"steps": 14}, {"epochs": 3.0}):
        with pytest.raises(ConfigError, match=r"schedule\.decay_steps=10; set steps"):
            TrainConfig(schedule=schedule, **length)
    with pytest.raises(ConfigError, match="decay_steps"):
        ScheduleConfig(kind="wsd", decay_steps=1)
