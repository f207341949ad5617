"""The figures that a CPU is to reach, asked beside measured, and what this machine lacks for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from glpn_deploy.runtimes.processor import saturates_int8

Verdict = Literal["reached", "missed", "not judged", "reported"]
ERRORS = {"openvino bf16": 0.005, "openvino int8": 0.02, "openvino int8+bf16": 0.02, "onnxruntime int8": 0.02}
"""The largest AbsRel against FP32, by row."""
Rows = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: What it is.
        asked: What it is to be, in words.
        measured: What it is, or None where it could not be measured.
        unit: Of what was measured; ``x`` for a ratio.
        verdict: Whether that is reached; not judged where it could not be measured.
        note: Why, what this machine lacks, or what stands in.
    """

    name: str
    asked: str
    measured: float | None
    unit: str
    verdict: Verdict
    note: str = ""

    @property
    def text(self) -> str:
        """What was measured, to be read."""
        if self.measured is None:
            return "-"
        if self.unit == "%":
            return f"{self.measured:.0%}"
        digits = 4 if self.unit == "AbsRel" else 2
        return (
            f"{self.measured:.{digits}f}{'x' if self.unit == 'x' else ' ' + self.unit if self.unit else ''}"
        )


def lacking(flags: frozenset[str] | None) -> dict[str, str]:
    """By precision, what this processor lacks of the one that the figures were set for, an AMX Xeon.

    Args:
        flags: What `glpn_deploy.runtimes.processor.cpu_flags` found.
    """
    if flags is None:
        return {}
    found = {}
    if "amx_bf16" not in flags:
        weak = "AVX512_BF16 only" if "avx512_bf16" in flags else "no bf16 arithmetic"
        found["bf16"] = f"no AMX ({weak})"
    if "amx_int8" not in flags:
        weak = "no VNNI, INT8 products saturate" if saturates_int8(flags) else "VNNI only"
        found["int8"] = f"no AMX ({weak})"
    return found


def judge(
    rows: Rows, extra: Mapping[str, Any], flags: frozenset[str] | None, *, stand_in: bool
) -> list[Figure]:
    """Every figure asked for.

    Args:
        rows: By name, what `cpu_figures` measured in turns; a row that did not run has
            ``not_run``.
        extra: The measurements besides: ``accuracy``, ``start``, ``end_to_end``, ``streams`` and ``limited``;
            each may be missing.
        flags: What the processor can do.
        stand_in: Whether HF's export through torch.onnx stands in for Optimum's.
    """
    lacks = lacking(flags)
    unit = "Optimum's export in ONNX Runtime" if not stand_in else "HF's torch.onnx export in ONNX Runtime"
    note = "Optimum is not installed: HF's own export stands in" if stand_in else ""

    def of(row: str, key: str) -> float | None:
        value = rows.get(row, {}).get(key)
        return None if value is None else float(value)

    def besides(part: str, key: str) -> float | None:
        value = (extra.get(part) or {}).get(key)
        return None if value is None else float(value)

    def warm(precision: str) -> float | None:
        return ((extra.get("start") or {}).get(precision) or {}).get("warm_s")

    def least(
        name: str, row: str, key: str, limit: float, precision: str = "fp32", unit_of: str = "x"
    ) -> Figure:
        asked = f"at least {limit:.0%}" if unit_of == "%" else f"at least {limit:g}x"
        value, share = of(row, key), of(row, "of_ceiling")
        why = [lacks.get(precision, "") or _why(rows, row) or (note if key == "over_export" else "")]
        if unit_of == "x" and value is not None and share is not None and value < limit:
            why.append(f"at the measured ceiling it would be {value / share:.2g}x")
        return _figure(name, asked, value, unit_of, limit, "; ".join(filter(None, why)))

    def most(name: str, asked: str, value: float | None, limit: float, unit_of: str, why: str = "") -> Figure:
        return _figure(name, asked, value, unit_of, limit, why, at_most=True)

    figures = [
        least(f"FP32 ONNX Runtime over {unit}", "onnxruntime fp32", "over_export", 1.25),
        least(f"FP32 OpenVINO over {unit}", "openvino fp32", "over_export", 1.45),
        least("FP32 OpenVINO of the FP32 ceiling", "openvino fp32", "of_ceiling", 0.85, unit_of="%"),
        least(f"bf16 OpenVINO over {unit}", "openvino bf16", "over_export", 6, "bf16"),
        least("bf16 OpenVINO over HF eager", "openvino bf16", "over_eager", 9, "bf16"),
        least(f"INT8 OpenVINO over {unit}", "openvino int8", "over_export", 7.5, "int8"),
        least(f"INT8 and bf16 OpenVINO over {unit}", "openvino int8+bf16", "over_export", 7.5, "int8"),
        *(
            most(
                f"{row} against FP32, demo network",
                f"at most {limit}",
                besides("accuracy", row),
                limit,
                "AbsRel",
            )
            for row, limit in ERRORS.items()
        ),
        least("batch 8 over batch 1, OpenVINO", "openvino fp32 batch 8", "over_batch_1", 1.1),
        least("batch 8 over batch 1, ONNX Runtime", "onnxruntime fp32 batch 8", "over_batch_1", 1.1),
    ]
    for backend in ("openvino", "onnxruntime"):
        peak = of(f"{backend} fp32", "peak_gb")
        figures.append(most(f"peak memory, FP32 {backend}", "at most 1.5 GB", peak, 1.5, "GB"))
    figures += [
        *(
            most(f"first depth map from a warm cache, {precision}", "at most 2 s", warm(precision), 2.0, "s")
            for precision in ("fp32", "bf16")
        ),
        most(
            "glpn-predict on many over bare",
            "at most 10 % more",
            besides("end_to_end", "over_bare_running"),
            0.1,
            "%",
            "without the command's start; with it in the JSON",
        ),
        _auto(rows, (extra.get("start") or {}).get("auto") or {}),
    ]
    for backend, found in sorted((extra.get("streams") or {}).items()):
        gain = found.get("gain")
        figures.append(Figure(f"two streams over one, {backend}", "reported", gain, "x", "reported"))
    for how, said in (extra.get("limited") or {}).items():
        verdict: Verdict = "reached" if said.startswith("runs") else "missed"
        figures.append(Figure(f"without AVX-512: {how}", "nothing breaks", None, "", verdict, said))
    return figures


def _why(rows: Rows, row: str) -> str:
    return str(rows.get(row, {}).get("not_run", ""))


def _figure(
    name: str, asked: str, value: float | None, unit: str, limit: float, note: str, *, at_most: bool = False
) -> Figure:
    if value is None:
        return Figure(name, asked, None, unit, "not judged", note or "not measured")
    good = value <= limit if at_most else value >= limit
    return Figure(name, asked, value, unit, "reached" if good else "missed", note)


def _auto(rows: Rows, chosen: Mapping[str, Any]) -> Figure:
    """Whether ``auto`` takes what was the fastest in FP32, or within 5 % of it."""
    times = {
        name: rows.get(f"{name} fp32", {}).get("median_ms") for name in ("openvino", "onnxruntime", "torch")
    }
    known = {name: float(value) for name, value in times.items() if value is not None}
    name, asked = "auto's choice over the fastest, FP32", "at most 1.05x its time"
    took = known.get(str(chosen.get("backend")))
    if took is None:
        return Figure(name, asked, None, "x", "not judged", "not measured")
    return _figure(
        name, asked, took / min(known.values()), "x", 1.05, str(chosen.get("why", "")), at_most=True
    )
