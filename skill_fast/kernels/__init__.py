"""The operations worth a kernel: a contract (op.py) and a definition (reference.py) each."""

from skill_fast.kernels.centering.op import center_update
from skill_fast.kernels.distillation.op import DistillationOutput, distillation_loss
from skill_fast.kernels.ema.op import ema_update

__all__ = ["DistillationOutput", "center_update", "distillation_loss", "ema_update"]
