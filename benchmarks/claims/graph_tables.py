"""The tables of docs/rtx.md and docs/embedding.md: what NVIDIA's compiler makes of graphs, and uint8."""

from __future__ import annotations

from glpn_deploy.benchmarks.claims.markdown import Section, markdown_table, measured

_BACKENDS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def rtx(section: Section) -> str:
    """Every graph of both networks, by what it is made of."""
    parts = []
    for network, graphs in section["figures"]["networks"].items():
        rows = [
            (
                f"{name[:4].upper()}{name[4:]}",
                str(found["kernels"]),
                f"{found['fused_attention']} of {found['fused_attention'] + found['unfused_softmax']}",
                _megabytes(found["traffic_bytes"]),
                _megabytes(found["weights_bytes"]),
                _megabytes(found["scratch_bytes"]),
            )
            for name, found in graphs.items()
        ]
        head = (network, "kernels", "fused attention", "traffic", "weights", "scratch memory")
        parts.append(markdown_table(head, rows, right=True))
    compiler = next(iter(section["figures"]["networks"].values()))["fp16"]["target"].partition(",")[0]
    return f"Compiled on {section['measured']} by {compiler}.\n\n" + "\n\n".join(parts)


def uint8_input(section: Section) -> str:
    """What bytes save before a run, and on CPUs in all."""
    figures = section["figures"]
    rows = [
        (f"{size}, {name}", f"{found['ms']:.2f} ms", f"{found['bytes'] / 1e6:.2f} MB")
        for size, types in figures["host"].items()
        for name, found in types.items()
    ]
    told = []
    for name, label in _BACKENDS.items():
        found = figures["networks"][name]
        ratio = found["times_as_fast"]
        told.append(
            f"in {label} {ratio['value']:.2f} times as fast ({ratio['low']:.2f} to {ratio['high']:.2f}), "
            f"with depth that differs by {found['max_difference_m']:.1g} m"
        )
    table = markdown_table(
        ("image, type", "made on the host in (best of 200)", "handed over"), rows, right=True
    )
    return (
        f"{measured(section)}\n\n{table}\n\nFrom the image in memory to raw depth, the demo network that "
        f"takes uint8 is {' and '.join(told)}."
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
