"""The tables of README.md and docs/, from what `glpn_deploy.benchmarks.claims.figures` keeps.

A table stands between ``<!-- figures:NAME -->`` and ``<!-- /figures -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from glpn_deploy.benchmarks.claims import scale_tables
from glpn_deploy.benchmarks.claims.graph_tables import rtx, uint8_input
from glpn_deploy.benchmarks.claims.markdown import Section, markdown_table, measured
from glpn_deploy.errors import InputError

_MARKED = re.compile(r"(<!-- figures:(\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
_ROWS = {
    "optimum fp32": "Optimum's export, ONNX Runtime",
    "hf-eager fp32": "transformers, eager",
    "torch fp32": "this package, torch",
    "torch bf16": "BF16, torch",
    "onnxruntime fp32": "this package, ONNX Runtime",
    "openvino fp32": "this package, OpenVINO",
    "onnxruntime int8": "INT8, ONNX Runtime",
    "openvino int8": "INT8, OpenVINO",
    "openvino bf16": "BF16, OpenVINO",
    "openvino int8+bf16": "INT8 and BF16, OpenVINO (`--precision int8+bf16`)",
}
_PEERS = {
    "optimum fp32": "Optimum's export, ONNX Runtime",
    "openvino-optimum fp32": "Optimum's export, OpenVINO",
    "openvino-optimum bf16": "the same in BF16",
    "nncf int8": "the same quantized by NNCF",
    "nncf int8+bf16": "NNCF, the rest in BF16",
    "ort-static int8": "the same quantized by onnxruntime.quantization",
    "modelopt int8": "the same quantized by nvidia-modelopt",
}
_SHORT = (
    "optimum fp32",
    "onnxruntime fp32",
    "openvino fp32",
    "onnxruntime int8",
    "openvino int8",
    "openvino bf16",
    "openvino int8+bf16",
)
_FORMS = {"fp16": "FP16", "bf16": "BF16", "int8": "INT8", "int8-cpu": "INT8 for CPUs", "fp8": "FP8"}


def fill(text: str, sections: Mapping[str, Section]) -> str:
    """The text with every table rewritten; tables of missing sections stay as they are.

    Raises:
        InputError: A marker names no table.
    """

    def table(found: re.Match[str]) -> str:
        name = found[2]
        if name not in TABLES:
            raise InputError(
                f"the marker figures:{name} names no table", expected=f"one of {', '.join(TABLES)}"
            )
        section = sections.get(PART_OF.get(name, name))
        return found[0] if section is None else f"{found[1]}{TABLES[name](section)}\n{found[3]}"

    return _MARKED.sub(table, text)


def main_job(section: Section) -> str:
    """Nearness, export, latency and start-up."""
    figures = section["figures"]
    near, export = figures["against_transformers"], figures["export_and_latency"]
    worst, cost, start = near["max_difference"], figures["estimator_cost"], figures["start_up"]
    times, added = export["times_as_fast_as_hf"], start["import_over_numpy_ms"]
    native, resized = cost["480x640"], cost["481x650"]
    opsets = {number: f"opset{number}" for number in (17, 20, 23)}
    nodes = ", ".join(f"opset {n} {export['nodes'][name]:,}" for n, name in opsets.items())
    nodes = nodes.replace("opset 17", "opset 17 (default)")
    table = markdown_table(
        ("figure", "measured"),
        [
            (
                f"PyTorch network against transformers, {near['configurations']} random configurations",
                f"depth {worst['depth']:.1e} of max_depth, hidden states {worst['hidden_states']:.1e}, "
                f"attentions {worst['attentions']:.1e}, loss {worst['loss']:.0e}",
            ),
            (
                '`DepthEstimator` against `pipeline("depth-estimation")`, '
                f"{figures['against_pipeline']['photographs']} photographs at their own size",
                f"{figures['against_pipeline']['max_difference']:.1e} of max_depth",
            ),
            (
                "ONNX Runtime against PyTorch over the shape sweep",
                f"{figures['sweep']['max_difference']:.1e} of max_depth",
            ),
            (
                "export without verification",
                f"{export['glpn_export_s']:.1f} s (whole process); transformers' network through "
                f"`torch.onnx.export`: {export['hf_export_s']:.0f} s",
            ),
            ("graph nodes", f"{nodes}; transformers' export (opset 20) {export['nodes']['hf']:,}"),
            (
                "ONNX Runtime, 480×640, batch 1, times as fast as transformers' export",
                ", ".join(f"opset {n} {times[name]:.2f}" for n, name in opsets.items()),
            ),
            (
                "what `DepthEstimator` adds to the bare session",
                f"{native['around_ms']:.1f} ms at 480×640, {resized['around_ms']:.1f} ms where both "
                f"resizes are needed ({100 * resized['share']:.1f} %)",
            ),
            (
                "`import glpn_deploy` over numpy; `glpn-export --help`",
                f"{'not measurable (under 1 ms)' if added < 1 else f'{added:.0f} ms'}; "
                f"{start['help_s']:.2f} s",
            ),
        ],
    )
    return f"{measured(section)}\n\n{table}"


def _cpu_table(
    section: Section, names: Iterable[str], ratio: str, last: str, cell: Callable[[str], str]
) -> str:
    """Rows of a CPU: median, times as fast as Optimum's export, and one more column."""
    rows = section["figures"]["rows"]
    body = [
        (_ROWS[name], f"{rows[name]['median_ms']:.0f} ms", _speedup(rows[name]["speedup"]), cell(name))
        for name in names
        if name in rows
    ]
    return markdown_table(("480×640, batch 1", "median", ratio, last), body, right=True)


def cpu(section: Section) -> str:
    """This package beside its peers, and whole commands."""
    figures = section["figures"]

    def memory(name: str) -> str:
        return f"{figures['rows'][name]['peak_memory_mib'] * 2**20 / 1e9:.2f} GB"

    ratio = "times as fast as Optimum's export (95 % interval)"
    table = _cpu_table(section, _ROWS, ratio, "peak memory", memory)
    starts = [
        f"{start['warm_s']:.1f} s in {precision.upper()}"
        for precision, start in figures["start"].items()
        if start
    ]
    predict, off = figures["predict"], figures["abs_rel"]
    running, whole = (f"{100 * predict[name]:.0f} %" for name in ("over_bare_running", "over_bare"))
    moved = {"openvino bf16": "BF16", "openvino int8": "INT8", "openvino int8+bf16": "INT8 and BF16"}
    errors = ", ".join(f"{label} by {off[name]:.2g}" for name, label in moved.items() if name in off)
    return (
        f"{measured(section)}\n\n{table}\n\n"
        f"`glpn-predict` on 100 photographs takes {running} longer an image than the bare network, {whole} "
        "with the command's start; its first depth map comes "
        f"{' and '.join(starts)} after the command's start from a warm cache. In OpenVINO the demo network's "
        f"depth moves by these AbsRel: {errors}."
    )


def cpu_peers(section: Section) -> str:
    """Each of this package's rows beside the peer that does the same."""
    figures = section["figures"]
    rows, off = figures["rows"], figures["abs_rel"]
    table = markdown_table(
        ("480×640, batch 1", "median", "its peer", "its median", "times as fast (95 % interval)", "AbsRel"),
        [
            (
                _ROWS[ours],
                f"{rows[ours]['median_ms']:.0f} ms",
                _PEERS[found["peer"]],
                f"{rows[found['peer']]['median_ms']:.0f} ms",
                _speedup(found),
                _both(off, ours, found["peer"]) if "fp32" not in ours else "",
            )
            for ours, found in figures["times_as_fast"].items()
        ],
        right=True,
    )
    return f"{measured(section)}\n\n{table}"


def _both(off: Mapping[str, float], ours: str, peer: str) -> str:
    return ", ".join(f"{off[name]:.2g}" for name in (ours, peer) if name in off)


def speed(section: Section) -> str:
    """The README's table: how fast, and how far the depth moves."""
    off = section["figures"]["abs_rel"]

    def moved(name: str) -> str:
        return f"{off[name]:.2g}" if name in off else ""

    table = _cpu_table(section, _SHORT, "times as fast (95 % interval)", "depth moves by (AbsRel)", moved)
    return f"{measured(section)}\n\n{table}"


def precision(section: Section) -> str:
    """The demo network in lower precisions."""
    forms = section["figures"]["forms"]
    table = markdown_table(
        ("precision", "AbsRel against FP32", "δ1 against the truth"),
        [
            (label, f"{forms[name]['abs_rel']:.4f}", f"{forms[name]['delta1_truth']:.4f}")
            for name, label in _FORMS.items()
        ],
    )
    fp32 = forms["fp16"]["delta1_truth_fp32"]
    return f"{measured(section)} FP32 reaches δ1 {fp32:.4f} against the truth.\n\n{table}"


def demo(section: Section) -> str:
    """The demo network against ground truth."""
    rooms, flip = section["figures"]["rooms"], section["figures"]["rooms_flip"]
    named = {
        "demo network": rooms["metrics"],
        "averaged with the mirrored image (`--flip`)": flip["metrics"],
    }
    named |= {base["description"]: base["metrics"] for base in rooms["baselines"].values()}
    table = markdown_table(
        ("predictor", "δ1", "AbsRel", "RMSE"),
        [
            (label, f"{found['delta1']:.3f}", f"{found['abs_rel']:.3f}", f"{found['rmse']:.3f} m")
            for label, found in named.items()
        ],
    )
    small, large = (
        section["figures"]["motorcycle"][name]["median_scaled"] for name in ("reduced", "original")
    )
    return (
        f"{measured(section)}\n\n{table}\n\n"
        "On one real photograph with real depth, the Middlebury motorcycle that scikit-image ships, with "
        f"median scaling: δ1 {small['delta1']:.3f}, AbsRel {small['abs_rel']:.3f} near the trained size, "
        f"{large['delta1']:.3f} and {large['abs_rel']:.3f} at the photograph's own."
    )


TABLES: dict[str, Callable[[Section], str]] = {
    "main_job": main_job,
    "cpu": cpu,
    "cpu_peers": cpu_peers,
    "speed": speed,
    "precision": precision,
    "demo": demo,
    "rtx": rtx,
    "uint8_input": uint8_input,
    "scale_modes": scale_tables.modes,
    "scale_costs": scale_tables.costs,
    "triton": scale_tables.triton,
    "triton_soak": scale_tables.triton_soak,
}
PART_OF = {"speed": "cpu", "scale_modes": "scale", "scale_costs": "scale"}
"""The section of a table that is not called like it."""


def _speedup(ratio: Mapping[str, float] | None) -> str:
    if ratio is None:
        return ""
    if ratio["low"] is None or ratio["low"] == ratio["high"]:  # the baseline itself
        return f"{ratio['value']:.2g}"
    return f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
