"""What this processor can do, where the system tells."""

from __future__ import annotations

import re
from pathlib import Path


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """What this processor can do, as Linux names it, or None where the system does not tell."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else None


def saturates_int8(flags: frozenset[str] | None) -> bool:
    """Whether INT8 products are summed in 16 bits here, which large ones overflow: x86 without VNNI."""
    return flags is not None and "avx2" in flags and not {"avx512_vnni", "avx_vnni"} & flags
