"""The same plan on a GPU gives the same batches, pixels but for rounding, with the hardware decoder off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from skill_fast.data.loader import EvaluationLoader, Loader, LoaderConfig
from skill_fast.data.views import ViewGroup

pytestmark = pytest.mark.gpu
VIEWS = (ViewGroup("global", (0, 1), 48, (0.4, 1.0)), ViewGroup("local", (0, 0), 24, (0.05, 0.4)))


@pytest.fixture
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return torch.device("cuda", 0)


def batches(index, device, config, count=6):
    with Loader(index, VIEWS, global_batch=16, seed=5, config=config, device=device) as loader:
        return [next(loader) for _ in range(count)]


def test_crops_are_those_of_the_cpu(index, device):
    config = LoaderConfig(threads=2, hw_decoder_load=0.0)
    for cpu, gpu in zip(batches(index, "cpu", config), batches(index, device, config)):
        assert np.array_equal(cpu.images, gpu.images) and np.array_equal(cpu.positions, gpu.positions)
        for name, crops in cpu.crops.items():
            assert gpu.crops[name].device == device
            difference = (gpu.crops[name].cpu() - crops).abs() * 0.225 * 255  # in levels of 8 bits
            # nvJPEG and libjpeg-turbo round their chroma differently, and jitter may stretch that.
            assert difference.mean() < 1.5 and difference.quantile(0.99) < 8


def test_batches_stay_what_they_were_while_others_are_made(index, device):
    """Memory handed out is not written again while it is in use, and used tensors are not reused too early."""
    config = replace(LoaderConfig(hw_decoder_load=0.0, dtype="float16"), prefetch=3)
    with Loader(index, VIEWS, global_batch=16, seed=5, config=config, device=device) as loader:
        kept = [next(loader) for _ in range(10)]
        sums = [{k: v.float().sum().item() for k, v in b.crops.items()} for b in kept]
        for _ in range(20):
            next(loader)
        assert [{k: v.float().sum().item() for k, v in b.crops.items()} for b in kept] == sums
    again = batches(index, device, config, count=10)
    assert all(torch.equal(a.crops["global"], b.crops["global"]) for a, b in zip(kept, again))


def test_photographs_for_evaluation_are_those_of_the_cpu(index, device):
    def photographs(where):
        loader = EvaluationLoader(
            index, np.arange(40), resize=48, crop=40, batch_size=16, device=where, hw_decoder_load=0.0
        )
        return torch.cat([p.cpu() for _, p in loader])

    assert (photographs("cpu") - photographs(device)).abs().mean() < 1.5 / 255
