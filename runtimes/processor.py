"""What this processor can do, where the system tells."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

_ISA_SWITCHES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_BELOW_AVX512 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"}


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """What this processor can do, as Linux names it, or None where the system does not tell."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else None


def usable_cores() -> int:
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_processor(root: Path = Path("/")) -> str:
    """Usable cores, model and what tells backends apart: ``2 of 2 cores usable, AMD EPYC (AVX2, VNNI)``."""
    cpuinfo = root / "proc/cpuinfo"
    flags = cpu_flags(cpuinfo)
    if flags is None and not cpuinfo.is_file():
        return f"{os.cpu_count()} cores, {platform.processor() or 'unknown model'}"
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text(encoding="utf-8"))
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "amx_tile": "AMX"}
    have = [label for flag, label in known.items() if flag in (flags or ())]
    name = model[1].strip() if model else platform.machine()
    return f"{usable_cores()} of {os.cpu_count()} cores usable, {name}" + (
        f" ({', '.join(have)})" if have else ""
    )


def hides_avx512(environment: Mapping[str, str], flags: frozenset[str] | None) -> str:
    """The setting (``NAME=VALUE``) that keeps oneDNN from this processor's AVX-512, or nothing."""
    if flags is None or "avx512f" not in flags:
        return ""
    for name in _ISA_SWITCHES:
        value = environment.get(name, "")
        if value.upper() in _BELOW_AVX512:
            return f"{name}={value}"
    return ""


def saturates_int8(flags: frozenset[str] | None) -> bool:
    """Whether INT8 products are summed in 16 bits here, which large ones overflow: x86 without VNNI."""
    return flags is not None and "avx2" in flags and not {"avx512_vnni", "avx_vnni"} & flags
