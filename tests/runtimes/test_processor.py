"""What a processor can do is read from what Linux says of it."""

from __future__ import annotations

import pytest

from glpn_deploy.runtimes.processor import cpu_flags, hides_avx512, saturates_int8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name : x\nflags\t\t: fpu avx2 amx_tile\nbugs\t: y\n", {"fpu", "avx2", "amx_tile"}),
        ("Features\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("nothing\n", None),
    ],
)
def test_processor_flags(text, expected, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_flags(tmp_path / "cpuinfo") == expected
    assert cpu_flags(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (None, False),
        ({"asimd"}, False),
        ({"avx2"}, True),
        ({"avx2", "avx512f"}, True),
        ({"avx2", "avx_vnni"}, False),
        ({"avx2", "avx512f", "avx512_vnni"}, False),
    ],
)
def test_vnni(flags, expected):
    assert saturates_int8(None if flags is None else frozenset(flags)) == expected


@pytest.mark.parametrize(
    ("environment", "flags", "expected"),
    [
        ({}, {"avx512f"}, ""),
        ({"ONEDNN_MAX_CPU_ISA": "avx2"}, {"avx2", "avx512f"}, "ONEDNN_MAX_CPU_ISA=avx2"),
        ({"DNNL_MAX_CPU_ISA": "SSE41"}, {"avx2", "avx512f"}, "DNNL_MAX_CPU_ISA=SSE41"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"avx2"}, ""),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, {"avx512f"}, ""),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, None, ""),
    ],
)
def test_a_setting_that_hides_avx512_is_named(environment, flags, expected):
    assert hides_avx512(environment, None if flags is None else frozenset(flags)) == expected
