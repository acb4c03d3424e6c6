"""A CPU without half-precision instructions is told from one with them."""

import pytest

from skill_fast.engine import cpu_precision


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("fpu avx2 avx512f", {"fp32"}),
        ("fpu avx512f avx512_bf16", {"fp32", "bf16"}),
        ("fpu amx_bf16 avx512_fp16", {"fp32", "bf16", "fp16"}),
    ],
)
def test_flags_decide(flags, native, tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    assert {name for name in ("fp32", "bf16", "fp16") if cpu_precision.is_native(name, info)} == native


def test_a_machine_that_does_not_say_is_not_warned(tmp_path):
    (tmp_path / "arm").write_text("processor : 0\nFeatures : asimd\n")
    assert cpu_precision.is_native("bf16", tmp_path / "arm") and cpu_precision.is_native("bf16", tmp_path / "none")


def test_the_warning_names_the_faster_configuration(monkeypatch):
    monkeypatch.setattr(cpu_precision, "is_native", lambda precision: False)
    assert "zero2_fp32.json" in cpu_precision.warning("bf16", "cpu") and cpu_precision.warning("bf16", "cuda") == ""
