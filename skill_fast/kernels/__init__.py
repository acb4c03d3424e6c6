"""The operations worth a kernel: a contract (op.py), a definition (reference.py) and Triton (fused.py) each.

``choose`` fixes which of the two runs; ``describe`` says it.
"""

from skill_fast.kernels.backend import choose, describe
from skill_fast.kernels.centering.op import center_update, sinkhorn
from skill_fast.kernels.distillation.op import DistillationOutput, distillation_loss
from skill_fast.kernels.ema.op import ema_update

__all__ = [
    "DistillationOutput",
    "center_update",
    "choose",
    "describe",
    "distillation_loss",
    "ema_update",
    "sinkhorn",
]
