"""Records what one version of TensorRT's Python module offers: enumerations, classes, signatures.

`tensorrt_api.json` holds 8.6.0, 10.3.0, 10.13.3 and 11.4.0, and TensorRT for RTX 1.7.1; the tests build
their stand-ins from it (`tests/tensorrt_api.py`), so that a name that a version does not have fails a test.
To add or renew a version, install its wheel and run, with the same Python:

    python tests/record_tensorrt_api.py [VERSION [MODULE_FILE or tensorrt_rtx_bindings]]

No GPU is needed: nothing is constructed, and docstrings tell the signatures. Where TensorRT's libraries
are missing or too large, empty stand-ins on LD_LIBRARY_PATH (libnvinfer, libnvinfer_plugin, libnvonnxparser
with the symbols that the loader asks for) are enough; MODULE_FILE then names the wheel's ``tensorrt.so``.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "data" / "tensorrt_api.json"

# What this project touches, and what a later version may make it touch.
CLASSES = (
    "Builder",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IOutputAllocator",
    "IProgressMonitor",
    "IRuntimeCache",
    "IRuntimeConfig",
    "ITensor",
    "ITimingCache",
    "Logger",
    "OnnxParser",
    "OnnxParserRefitter",
    "ParserError",
    "Refitter",
    "Runtime",
)
SPECIAL = {"__init__", "__len__", "__getitem__", "__enter__", "__exit__", "__bool__"}


def record(module: Any) -> dict[str, Any]:
    """The enumerations with their values, the classes with their members, the other names."""
    enumerations: dict[str, dict[str, int]] = {}
    names = []
    for name, value in sorted(vars(module).items()):
        if not isinstance(value, type):
            if not name.startswith("_") and (callable(value) or hasattr(type(value), "__members__")):
                names.append(name)
            continue
        members = getattr(value, "__members__", None)
        if members is not None:
            enumerations[name] = {key: int(member) for key, member in members.items()}
    severity = module.ILogger.Severity.__members__
    enumerations["ILogger.Severity"] = {key: int(member) for key, member in severity.items()}
    classes = {name: _class(getattr(module, name)) for name in CLASSES if hasattr(module, name)}
    return {"enums": enumerations, "classes": classes, "names": names}


def _class(kind: type) -> dict[str, Any]:
    methods: dict[str, list[str]] = {}
    properties: dict[str, str] = {}
    bases = [
        base for base in kind.__mro__ if base.__module__ != "builtins" and "pybind11" not in base.__module__
    ]
    for base in reversed(bases):
        for name, member in vars(base).items():
            if (name.startswith("_") and name not in SPECIAL) or hasattr(type(member), "__members__"):
                continue
            if isinstance(member, property):
                properties[name] = "rw" if member.fset else "r"
            elif callable(member) and not isinstance(member, type):
                methods[name] = _signatures(name, member.__doc__ or "")
    parents = [base.__name__ for base in bases[1:] if base.__name__ in CLASSES]
    return {"bases": parents, "methods": methods, "properties": properties}


def _signatures(name: str, text: str) -> list[str]:
    """``flag: BuilderFlag -> None`` for every overload that the docstring lists."""
    found = re.findall(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\) -> (.+)$", text, re.MULTILINE)
    signatures = []
    for arguments, returns in found:
        if arguments.startswith("*args"):
            continue
        _, _, rest = arguments.partition(",")  # self
        signatures.append(f"{_plain(rest)} -> {_plain(returns)}".strip())
    return signatures


def _plain(text: str) -> str:
    """Types without the modules they come from, in one spelling for all versions."""
    text = re.sub(r"<(\w+)\.(\w+): -?\d+>", r"\1.\2", text)
    text = re.sub(r"\bnv(?:infer1|onnxparser)::(?:I(?=EngineInspector|ParserError))?", "", text)
    text = re.sub(r"\btensorrt_rtx_bindings\.tensorrt_rtx\.", "", text)
    text = re.sub(r"\b(?:tensorrt|typing|typing_extensions|collections\.abc)\.", "", text.replace("::", "."))
    text = re.sub(r"\b(?:SupportsInt|SupportsIndex)\b", "int", text)
    text = re.sub(r"\bList\[", "list[", text)
    return re.sub(r"\bbuffer\b", "Buffer", text).strip()


def main() -> None:
    """Reads the module and writes it into the file."""
    if len(sys.argv) > 2 and not Path(sys.argv[2]).is_file():
        module = importlib.import_module(sys.argv[2])
    elif len(sys.argv) > 2:
        spec = importlib.util.spec_from_file_location("tensorrt", sys.argv[2])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module("tensorrt")
    version = sys.argv[1] if len(sys.argv) > 1 else module.__version__
    recorded = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    recorded[version] = record(module)
    ordered = dict(sorted(recorded.items(), key=lambda item: [int(part) for part in item[0].split(".")]))
    lines = []
    for number, api in ordered.items():
        parts = [
            f'  "{part}": {{\n'
            + ",\n".join(f'   "{key}": {json.dumps(value)}' for key, value in api[part].items())
            + "\n  }"
            for part in ("enums", "classes")
        ]
        parts.append(f'  "names": {json.dumps(api["names"])}')
        lines.append(f' "{number}": {{\n' + ",\n".join(parts) + "\n }")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
