"""What the paper publishes of its networks, on the field's test pictures by the protocol of `pictures.metrics`."""

PAPER = {
    ("Set5", 2): ((37.67, 0.9596), (37.79, 0.9600)),
    ("Set5", 3): ((34.08, 0.9251), (34.20, 0.9258)),
    ("Set5", 4): ((31.63, 0.8890), (31.77, 0.8908)),
    ("Set14", 2): ((32.89, 0.9144), (33.06, 0.9155)),
    ("Set14", 3): ((29.63, 0.8365), (29.76, 0.8381)),
    ("Set14", 4): ((27.99, 0.7757), (28.08, 0.7776)),
    ("B100", 2): ((31.98, 0.8974), (32.03, 0.8980)),
    ("B100", 3): ((28.91, 0.8014), (28.96, 0.8024)),
    ("B100", 4): ((27.40, 0.7301), (27.44, 0.7313)),
    ("Urban100", 2): ((31.29, 0.9205), (31.45, 0.9220)),
    ("Urban100", 3): ((27.57, 0.8409), (27.70, 0.8432)),
    ("Urban100", 4): ((25.56, 0.7682), (25.65, 0.7705)),
}
"""PSNR-Y and SSIM-Y of ISRResCNet and ISRResCNet+ (self-ensemble) as published (arXiv 2009.04809)."""

_ALSO_CALLED = {"BSD100": "B100", "BSDS100": "B100"}


def published_psnr(dataset: str, scale: int) -> float | None:
    """Returns the PSNR-Y of ISRResCNet on a set of test pictures, dB; None where the paper has no figure."""
    figures = PAPER.get((_ALSO_CALLED.get(dataset, dataset), scale))
    return None if figures is None else figures[0][0]
