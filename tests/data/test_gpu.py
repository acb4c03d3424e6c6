"""The same plan on a GPU gives the same batches, pixels but for rounding, with the hardware decoder off."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.parity import BLUR, COLORS
from benchmarks.pixels import PLAIN, crops_of, still_plan
from skill_fast.data.dali import device_id, to_torch
from skill_fast.data.index import open_index
from skill_fast.data.loader import EvaluationLoader, Loader, LoaderConfig
from skill_fast.data.pipeline import crop_graph, crop_inputs
from skill_fast.data.views import ViewGroup
from tests.data.conftest import Product, drawn, fractional_sampling, jpeg, some_products

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


def under_load(stop: threading.Event, device: torch.device) -> None:
    """Matrix products on a stream of their own, so that the decoder meets a GPU that is busy."""
    with torch.cuda.stream(torch.cuda.Stream(device)):
        matrix = torch.randn(4096, 4096, device=device, dtype=torch.bfloat16)
        while not stop.is_set():
            for _ in range(20):
                matrix @ matrix
            torch.cuda.current_stream(device).synchronize()


@pytest.mark.parametrize("hw_decoder_load", [0.0, 0.65, 1.0])
def test_the_decoder_gives_the_same_pixels_under_load(device, hw_decoder_load):
    """One batch of 64 photographs 200 times: the very same crops with one decoder for all; where hardware and CUDA
    share a batch, who decodes what may change, and their chroma differs by less than a level on average of any crop."""
    photographs = [np.frombuffer(jpeg(drawn(500, 400, seed)), dtype=np.uint8) for seed in range(64)]
    group = ViewGroup("view", (0,), 224, (1.0, 1.0), generic=PLAIN)
    plan = still_plan([(500, 400)] * 64, 224)
    options = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3, "dtype": "float16", "threads": 4, "depth": 2}
    flags = {"bends": False, "erases": False}
    graph = crop_graph(
        [group], 64, photographs=1, device_id=device_id(device), hw_decoder_load=hw_decoder_load, **options, **flags
    )
    inputs, stream = crop_inputs([group], {"view": plan}, [photographs], **flags), torch.cuda.Stream(device)
    stop = threading.Event()
    load = threading.Thread(target=under_load, args=(stop, device))
    load.start()
    try:
        first, worst, mean = None, 0.0, 0.0  # mean: of the crop that differs most
        graph.submit(inputs)
        for _ in range(200):
            graph.submit(inputs)
            [crops] = to_torch(graph.collect(stream), [1], "float16", stream)
            graph.release()
            first = crops if first is None else first
            difference = (crops.float() - first.float()).abs()
            worst, mean = max(worst, float(difference.max())), max(mean, float(difference.mean((0, 2, 3, 4)).max()))
    finally:
        stop.set()
        load.join()
    print(f"hw_decoder_load {hw_decoder_load}: at most {worst} levels, on average {mean:.4f}")
    assert worst == 0 if hw_decoder_load in (0.0, 1.0) else mean < 1


@pytest.mark.parametrize("threads", [1, 4])
def test_a_photograph_that_the_decoder_refuses_is_replaced_as_on_the_cpu(device, catalogue, threads):
    """The poisoned pipeline is made anew; whichever faults a GPU's decoder finds, the stand-ins are the rule's."""
    products = some_products(12)
    bad_file = fractional_sampling(jpeg(drawn(64, 64, 0)))
    products[3] = Product("bad", [(50, 50), bad_file, (60, 44)])
    index = open_index(catalogue(products, 2))
    config = LoaderConfig(threads=threads, hw_decoder_load=0.0, max_skipped_share=1.0)
    for cpu, gpu in zip(batches(index, "cpu", config), batches(index, device, config)):
        assert np.array_equal(cpu.images, gpu.images)


STAGES = {  # stage: what the plan changes, the generic augmentation, most levels that rounding to 8 bits explains
    "resize": ({"region": [5, 9, 231, 240]}, PLAIN, 1.01),
    "warp": ({"homography": [[0.9, -0.3, 40.2], [0.3, 0.9, -33.7], [0, 0, 1]]}, PLAIN, 1.01),
    "colour": ({"brightness": 1.2, "contrast": 0.7, "saturation": 1.2, "hue_degrees": 30.0}, COLORS, 1.01),
    "blur": ({"blur_sigma": 1.7}, BLUR, 1.01),
}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_that_of_the_cpu(device, stage):
    """On a PNG, so that no decoder differs: the GPU rounds to 8 bits after each operation, the CPU keeps floats."""
    changes, generic, most = STAGES[stage]
    picture = drawn(256, 256, 2)
    plan = still_plan([(256, 256)], 224, **{name: np.array([value]) for name, value in changes.items()})
    options = {"generic": generic, "bends": stage == "warp"}
    on_cpu = crops_of([picture], 224, plan, **options)
    on_gpu = crops_of([picture], 224, plan, device_id=device_id(device), **options)
    difference = np.abs(on_cpu - on_gpu)
    print(f"{stage}: mean {difference.mean():.3f}, most {difference.max():.2f} levels")
    assert difference.max() < most


@pytest.mark.parametrize("hw_decoder_load", [0.0, 1.0])
def test_decoding_is_that_of_the_cpu_but_for_its_rounding(device, hw_decoder_load):
    """nvJPEG and libjpeg-turbo transform and upsample chroma each in their own arithmetic."""
    photograph = np.frombuffer(jpeg(drawn(256, 256, 3)), dtype=np.uint8)
    plan, here = still_plan([(256, 256)], 256), device_id(device)
    on_cpu = crops_of([photograph], 256, plan, encoded=True)
    on_gpu = crops_of([photograph], 256, plan, encoded=True, device_id=here, hw_decoder_load=hw_decoder_load)
    difference = np.abs(on_cpu - on_gpu)
    print(
        f"decode, hw_decoder_load {hw_decoder_load}: mean {difference.mean():.3f}, most {difference.max():.2f} levels"
    )
    assert difference.mean() < 1.0
