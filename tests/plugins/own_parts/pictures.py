"""Pictures to train from: --data.train own_parts.pictures:Waves."""

import numpy as np


class Waves:
    """Sixteen pictures of waves, made as they are asked for."""

    content = "waves, first kind"

    def __len__(self):
        return 16

    def __getitem__(self, index):
        rows, cols = np.mgrid[:48, :56]
        wave = 128 + 100 * np.sin(rows * (index + 1) / 20 + cols / (index + 3))
        return np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)
