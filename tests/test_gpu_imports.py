"""The GPU tests import most of what they use when they run: that it exists is seen here, without a GPU."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent / "gpu").glob("*.py"))


def imports(path: Path) -> set[tuple[str, str]]:
    """Modules and names that a file takes from this package anywhere in it."""
    found = set()
    sources = [path.read_text(encoding="utf-8")]
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("glpn_deploy"):
                found |= {(str(node.module), alias.name) for alias in node.names}
            elif isinstance(node, ast.Constant) and "\nfrom glpn_deploy" in str(node.value):
                sources.append(str(node.value))  # a program of its own
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_the_gpu_tests_import_exists(path):
    found = imports(path)
    assert found
    for module, name in sorted(found):
        assert hasattr(importlib.import_module(module), name), f"{path.name}: no {name} in {module}"
