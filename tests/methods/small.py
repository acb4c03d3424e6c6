"""Every method at a size that can be checked by hand, and crops for it."""

from __future__ import annotations

import torch
from torch import Tensor

from skill_fast.data.views import ViewsConfig
from skill_fast.methods import METHODS, Method
from skill_fast.methods.byol import ByolConfig
from skill_fast.methods.dino import DinoConfig
from skill_fast.methods.mocov2 import Mocov2Config
from skill_fast.methods.pbcnet import PbcnetConfig
from skill_fast.methods.simclr import SimclrConfig
from skill_fast.methods.simsiam import SimsiamConfig
from skill_fast.methods.skill import SkillConfig
from skill_fast.methods.triplet import TripletConfig
from skill_fast.models.heads import HeadConfig
from skill_fast.models.queue import MemoryQueue
from skill_fast.models.vit import BackboneConfig

VIT = BackboneConfig("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=24, depth=1, num_heads=2, drop_path=0.0)
CNN = BackboneConfig("test_resnet", 32, drop_path=0.0)
HEAD = HeadConfig(prototypes=17, hidden=16, bottleneck=8)
CONFIGS = {
    "skill": SkillConfig(),
    "dino": DinoConfig(),
    "byol": ByolConfig(hidden=16, projection=8),
    "simclr": SimclrConfig(hidden=16, projection=8),
    "mocov2": Mocov2Config(hidden=16, projection=8, queue=24),
    "simsiam": SimsiamConfig(projection=16, prediction_hidden=8),
    "pbcnet": PbcnetConfig(hidden=16, projection=8, queue=24),
    "triplet": TripletConfig(),
}


def build(name: str, backbone: BackboneConfig = VIT, *, double: bool = False, **views) -> Method:
    """A method whose batch norms learn and whose teacher differs from its student."""
    config = ViewsConfig(local_crops=2, local_size=16, **views)
    method = METHODS[name](CONFIGS[name], backbone, HEAD, config, seed=0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in method.teacher.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    if double:
        method.student.double()
        method.teacher.double()
        if isinstance(queue := getattr(method, "queue", None), MemoryQueue):
            queue.rows = queue.rows.double()
    return method


def crops(method: Method, batch: int = 6, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Pixels of the shapes that the loader would make for the method's views."""
    generator = torch.Generator().manual_seed(seed)
    return {
        group.name: torch.randn(group.views, batch, 3, group.size, group.size, generator=generator).to(dtype)
        for group in method.views()
    }


def labels(batch: int = 6) -> dict[str, Tensor]:
    """Groups of two products in two colours, of two types by turns of six."""
    place = torch.arange(batch)
    return {"group": place // 2, "color": place % 2, "type": place // 6}
