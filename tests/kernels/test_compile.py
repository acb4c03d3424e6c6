"""Every kernel compiles for a Hopper GPU, without one, for every dtype; it spills no register and stays within the
registers and the shared memory that its launch numbers were chosen by (docs/kernels.md)."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from triton import JITFunction, knobs
from triton import compile as compile_kernel
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
ON_DEVICE = {"student_temp": "fp32", "teacher_temp": "*fp32"}
NUMBERS = {"student_temp": "fp32", "teacher_temp": "fp32"}
STRIDES = ("student_view", "student_row", "teacher_view", "teacher_row")

MOST_REGISTERS = {
    "partials_kernel": 168,  # a thread: 65,536 an SM over 168 and 32 threads are the 12 warps that `programs` counts on
    "gradient_kernel": 64,  # 1,024 of an SM's 2,048 threads
    "combine_kernel": 64,
    "finish_kernel": 72,
    "ema_kernel": 32,  # all 2,048 threads: bytes in flight are all that counts
    "center_kernel": 64,
}
FP32_PARTIALS = 184  # of fp32 logits, wider in registers: 11 warps an SM
MOST_SHARED = 16 * 1024
"""Bytes a block, 1 KiB of the driver among them: 12 blocks an SM never wait for its 227 KiB."""


def case(kernel, warps, constants, *, fusion=False, aligned=(), **types):
    """``types`` of arguments that are no fp32 pointers; ``aligned``: those divisible by 16."""
    kind = "ones" if constants.get("batch") == 1 else "aligned" if aligned else "ragged"
    name = "-".join((kernel.fn.__name__, *dict.fromkeys(types.values()), kind))
    return pytest.param(kernel, warps, constants, fusion, aligned, types, id=name)


def passes(dtype: str, views: dict, block: int, aligned: bool, temps: dict = ON_DEVICE):
    """Both passes over the logits: dtype of the logits, views, and whether K and the addresses are multiples of 16."""
    counts = dict.fromkeys(("batch", "prototypes", "chunks"), "i32") | temps
    counts |= dict.fromkeys(STRIDES, "i64" if aligned else "i32")
    logits = {"student": f"*{dtype}", "teacher": f"*{dtype}"}
    multiples = ("student", "teacher", "center", "prototypes", *STRIDES) if aligned else ()
    reads = {f"{name.upper()}_READ": kind.startswith("*") for name, kind in temps.items()}
    constants = views | reads | {"WHOLE": aligned}
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
    *(p for dtype in ("bf16", "fp16", "fp32") for p in passes(dtype, VIEWS, LAUNCH.tile // 2, True, NUMBERS)),
    *passes("fp32", VIEWS | {"S": 4}, LAUNCH.tile // 2, aligned=False),
    *passes("fp16", ODD_VIEWS, LAUNCH.tile // 4, aligned=False),
    *passes("bf16", VIEWS | {"FIRST": 2}, LAUNCH.tile // 2, aligned=False),
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
    *(
        case(
            distillation.combine_kernel,
            4,
            VIEWS | {"PAIRS": 18, "CHUNKS": chunks},
            fusion=True,
            batch="i32",
            chunks="i32",
        )
        for chunks in (128, 512)  # K = 65,536 and 262,144
    ),
    case(distillation.finish_kernel, 4, {"BLOCK": 1024}, fusion=True, batch="i32", groups="i32", prototypes="i32"),
    *(
        case(
            ema.ema_kernel,
            ema.WARPS,
            {"MOMENTUM_READ": momentum.startswith("*"), "COPIED": copied, "BLOCK": ema.BLOCK},
            aligned=("teacher", "student", "out"),
            out=f"*{dtype}",
            elements=elements,
            momentum=momentum,
        )
        for dtype, elements, momentum, copied in (
            ("bf16", "i32", "*fp64", True),  # as engine/teacher.py calls it
            ("fp16", "i32", "*fp64", True),
            ("fp32", "i32", "*fp64", True),
            ("bf16", "i64", "fp32", True),
            ("fp16", "i32", "*fp32", True),
            ("fp32", "i32", "fp32", False),
        )
    ),
    *(
        case(
            centering.center_kernel,
            centering.WARPS,
            {"ROWS_READ": rows.startswith("*"), "BLOCK": centering.BLOCK},
            rows=rows,
            momentum="fp32",
            rest="fp32",
            prototypes="i32",
        )
        for rows in ("fp32", "*fp32")
    ),
]


@pytest.mark.parametrize(("kernel", "warps", "constants", "fusion", "aligned", "types"), CASES)
def test_kernel_compiles_for_hopper_without_spills(fresh, kernel, warps, constants, fusion, aligned, types):
    built, used = compiled(fresh, kernel, warps, constants, fusion, aligned, types)
    if aligned:
        assert loads(built.asm["ptx"]) == loads_by_16_bytes(kernel, warps, constants, types)
    assert used["STACK"] == 0 and used["LOCAL"] == 0, used
    wide = kernel is distillation.partials_kernel and types.get("student", "*fp32") == "*fp32"
    assert used["REG"] <= (FP32_PARTIALS if wide else MOST_REGISTERS[kernel.fn.__name__]), used
    assert used["SHARED"] <= MOST_SHARED, used


@pytest.mark.parametrize(
    ("kernel", "astray"), [(distillation.partials_kernel, "teacher_row"), (distillation.gradient_kernel, "student")]
)
def test_a_scalar_load_would_be_seen(fresh, kernel, astray):
    """One address or stride that is no multiple of 16 bytes: the others' loads are vectors all the same."""
    found = next(c.values for c in CASES if c.values[0] is kernel and c.values[4] and c.values[5]["student"] == "*bf16")
    kernel, warps, constants, fusion, aligned, types = found
    built, _ = compiled(fresh, kernel, warps, constants, fusion, [name for name in aligned if name != astray], types)
    vectors, others = loads(built.asm["ptx"])
    wanted_vectors, wanted_others = loads_by_16_bytes(kernel, warps, constants, types)
    assert vectors < wanted_vectors and others > wanted_others


def test_a_spill_would_be_seen(fresh):
    """Chunks twice as wide do not fit a warp's registers: what is wrong with them is what the test above looks for."""
    kernel, warps, constants, fusion, aligned, types = CASES[0].values
    _, used = compiled(fresh, kernel, warps, constants | {"BLOCK": 2 * constants["BLOCK"]}, fusion, aligned, types)
    assert used["STACK"] > 0 and used["REG"] > MOST_REGISTERS["partials_kernel"], used


def test_no_kernel_and_no_dtype_is_left_out():
    """Every launched kernel of the three modules, each that takes half precision in all three dtypes."""
    jitted = [f for module in (centering, distillation, ema) for f in vars(module).values()]
    launched = {f.fn.__name__ for f in jitted if isinstance(f, JITFunction) and f.fn.__name__.endswith("_kernel")}
    assert launched == MOST_REGISTERS.keys() == {c.values[0].fn.__name__ for c in CASES}
    dtypes = Counter(
        (c.values[0].fn.__name__, kind)
        for c in CASES
        for name, kind in c.values[5].items()
        if name in ("student", "out")
    )
    for name in ("partials_kernel", "gradient_kernel", "ema_kernel"):
        assert all(dtypes[name, f"*{dtype}"] for dtype in ("bf16", "fp16", "fp32")), name


@pytest.fixture
def fresh(monkeypatch, tmp_path) -> Path:
    """Triton's cache is empty: an old result would say nothing."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return tmp_path


def loads(ptx: str) -> tuple[int, int]:
    """(loads of 16 bytes, all others) from global memory a thread."""
    kinds = re.findall(r"\bld\.global\S*?(?:\.v(\d))?\.[bfus](\d+)\b", ptx)
    vectors = sum(int(times or 1) * int(bits) == 128 for times, bits in kinds)
    return vectors, len(kinds) - vectors


def loads_by_16_bytes(kernel, warps: int, constants: dict, types: dict) -> tuple[int, int]:
    """What ``loads`` is where every logit, center and weight is read once and by 16 bytes.

    Else a thread reads single numbers only: of the gradient the upstream one and two norms a view; of the average the
    momentum, and four of either tensor in the branch for the last, ragged block.
    """
    nbytes, other = 4 * constants["BLOCK"], 0
    if kernel is ema.ema_kernel:
        nbytes, other = 2 * nbytes, 2 * constants["BLOCK"] // (32 * warps) + constants["MOMENTUM_READ"]
    else:
        views = constants["S"] + constants["T"]
        nbytes += views * constants["BLOCK"] * (4 if types["student"] == "*fp32" else 2)
        other = 1 + 2 * views if kernel is distillation.gradient_kernel else 0
    return nbytes // (16 * 32 * warps), other


def compiled(folder: Path, kernel, warps, constants, fusion, aligned, types):
    """(what Triton built for sm_90, {"REG", "STACK", "LOCAL", "SHARED"} as the cubin says)."""
    signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in kernel.arg_names}
    multiples = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=multiples)
    built = compile_kernel(source, target=HOPPER, options={"num_warps": warps, "enable_fp_fusion": fusion})
    assert built.asm["cubin"][:4] == b"\x7fELF"
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(built.asm["cubin"])
    told = subprocess.run(
        [knobs.nvidia.cuobjdump.path, "-res-usage", str(cubin)], capture_output=True, text=True, check=True
    ).stdout
    used = {name: int(count) for name, count in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", told)}
    print(f"{kernel.fn.__name__} {constants}: {used}")
    return built, used
