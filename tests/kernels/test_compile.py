"""Every kernel compiles for a Hopper GPU, without one, and spills no register."""

from __future__ import annotations

import re
import subprocess

import pytest
from triton import compile as compile_kernel
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from skill_fast.kernels.centering import fused as centering
from skill_fast.kernels.distillation import fused as distillation
from skill_fast.kernels.ema import fused as ema
from tests.kernels.interpreted import INTERPRETED

pytestmark = pytest.mark.skipif(INTERPRETED, reason="Triton interprets in this process, it does not compile")

HOPPER = GPUTarget("cuda", 90, 32)
LAUNCH = distillation.LAUNCH
VIEWS = {"S": 10, "T": 2, "T_PAD": 2, "FIRST": 0}
ODD_VIEWS = {"S": 5, "T": 3, "T_PAD": 4, "FIRST": 2}
TEMPS = {"student_temp": "fp32", "teacher_temp": "*fp32"}
READS = {"STUDENT_TEMP_READ": False, "TEACHER_TEMP_READ": True}


STRIDES = ("student_view", "student_row", "teacher_view", "teacher_row")


def case(kernel, warps, constants, *, fusion=False, aligned=(), **types):
    """``types`` of arguments that are no fp32 pointers; ``aligned``: those divisible by 16."""
    kind = "ones" if constants.get("batch") == 1 else "aligned" if aligned else "ragged"
    name = "-".join((kernel.fn.__name__, *dict.fromkeys(types.values()), kind))
    return pytest.param(kernel, warps, constants, fusion, aligned, types, id=name)


def passes(dtype: str, views: dict, block: int, aligned: bool):
    """Both passes over the logits: dtype of the logits, views, and whether K and the addresses are multiples of 16."""
    counts = dict.fromkeys(("batch", "prototypes", "chunks"), "i32") | TEMPS
    counts |= dict.fromkeys(STRIDES, "i64" if aligned else "i32")
    logits = {"student": f"*{dtype}", "teacher": f"*{dtype}"}
    multiples = ("student", "teacher", "center", "prototypes", *STRIDES) if aligned else ()
    constants = views | READS | {"WHOLE": aligned}
    yield case(
        distillation.partials_kernel,
        LAUNCH.warps,
        constants | {"S_PAD": 16 if views["S"] > 8 else 8, "BLOCK": block},
        fusion=True,
        aligned=multiples,
        **logits,
        **counts,
        rows="i32",
    )
    yield case(
        distillation.gradient_kernel,
        LAUNCH.gradient_warps,
        constants | {"PAIRS": 18, "BLOCK": LAUNCH.gradient_block},
        fusion=True,
        aligned=(*multiples, "gradient") if aligned else (),
        **logits,
        gradient=f"*{dtype}",
        **counts,
    )


CASES = [
    *passes("bf16", VIEWS, LAUNCH.tile // 2, aligned=True),
    *passes("fp32", VIEWS | {"S": 4}, LAUNCH.tile // 2, aligned=False),
    *passes("fp16", ODD_VIEWS, LAUNCH.tile // 4, aligned=False),
    # Triton makes an argument of 1 a constant: one row, one prototype, one chunk are kernels of their own.
    *(
        case(
            kernel,
            1,
            {"S": 1, "T": 2, "T_PAD": 2, "FIRST": 0} | ones | constants,
            fusion=True,
            student_temp="fp32",
            teacher_temp="fp32",
        )
        for kernel, ones, constants in (
            (
                distillation.partials_kernel,
                dict.fromkeys(("batch", "prototypes", "chunks", "rows", *STRIDES), 1),
                {"S_PAD": 1, "BLOCK": 512, "WHOLE": False, "STUDENT_TEMP_READ": False, "TEACHER_TEMP_READ": False},
            ),
            (
                distillation.gradient_kernel,
                dict.fromkeys(("batch", "prototypes", "chunks", *STRIDES), 1),
                {"PAIRS": 1, "BLOCK": 512, "WHOLE": False, "STUDENT_TEMP_READ": False, "TEACHER_TEMP_READ": False},
            ),
            (distillation.combine_kernel, {"batch": 1, "chunks": 1}, {"PAIRS": 1, "CHUNKS": 1}),
        )
    ),
    case(distillation.finish_kernel, 4, {"BLOCK": 1024, "batch": 1, "groups": 1, "prototypes": 1}, fusion=True),
    case(
        distillation.combine_kernel,
        4,
        VIEWS | {"S": 4, "PAIRS": 6, "CHUNKS": 512},
        fusion=True,
        batch="i32",
        chunks="i32",
    ),
    case(distillation.finish_kernel, 4, {"BLOCK": 1024}, fusion=True, batch="i32", groups="i32", prototypes="i32"),
    *(
        case(
            ema.ema_kernel,
            ema.WARPS,
            {"MOMENTUM_READ": on_device, "COPIED": True, "BLOCK": ema.BLOCK},
            aligned=("teacher", "student", "out"),
            out=f"*{dtype}",
            elements=elements,
            **({} if on_device else {"momentum": "fp32"}),
        )
        for dtype, elements, on_device in (("bf16", "i32", True), ("fp16", "i64", False), ("fp32", "i32", False))
    ),
    case(
        centering.center_kernel,
        centering.WARPS,
        {"ROWS_READ": False, "BLOCK": centering.BLOCK},
        rows="fp32",
        momentum="fp32",
        rest="fp32",
        prototypes="i32",
    ),
]


@pytest.mark.parametrize(("kernel", "warps", "constants", "fusion", "aligned", "types"), CASES)
def test_kernel_compiles_for_hopper_without_spills(
    monkeypatch, tmp_path, kernel, warps, constants, fusion, aligned, types
):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # an old result would say nothing
    signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in kernel.arg_names}
    multiples = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=multiples)
    built = compile_kernel(source, target=HOPPER, options={"num_warps": warps, "enable_fp_fusion": fusion})
    assert built.asm["cubin"][:4] == b"\x7fELF"
    if aligned:  # 16 bytes an access: what bandwidth hangs on
        assert "ld.global.v4.b32" in built.asm["ptx"]

    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(built.asm["cubin"])
    told = subprocess.run(
        [knobs.nvidia.cuobjdump.path, "-res-usage", str(cubin)], capture_output=True, text=True, check=True
    ).stdout
    used = {name: int(count) for name, count in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", told)}
    print(f"{kernel.fn.__name__} {constants}: {used}")
    assert used["STACK"] == 0 and used["LOCAL"] == 0, used
