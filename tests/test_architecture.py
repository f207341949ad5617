"""The house keeps its order: who may import whom, what is packaged, and what a bare import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import glpn_deploy

ROOT = Path(__file__).parent.parent
LINKED = ("exporters", "runtimes", "benchmarks")  # folders at the top that are sub-packages when installed

# A module imports lower ranks only, or its own rank and below within its folder. A new module needs a
# line here, or in its folder's.
FOLDER_RANKS = {
    "cli": 6,
    "benchmarks": 5,
    "training": 3,
    "exporters": 3,
    "runtimes": 3,
    "datasets": 2,
}
RANKS = {
    "glpn_deploy": 7,
    "glpn_deploy.accuracy.evaluation": 5,
    "glpn_deploy.proof.artefact_check": 5,
    "glpn_deploy.proof.engine_check": 5,
    "glpn_deploy.proof.parity_picture": 5,
    "glpn_deploy.proof.polygraphy_check": 5,
    "glpn_deploy.proof.verification": 5,
    "glpn_deploy.exporters.build": 5,
    "glpn_deploy.exporters.engines": 5,
    "glpn_deploy.exporters.search.ladder": 5,
    "glpn_deploy.exporters.lower": 5,
    "glpn_deploy.proof.judges.shape_sweep": 5,
    "glpn_deploy.proof.judges.verdict": 5,
    "glpn_deploy.proof.artefact_runs": 4,
    "glpn_deploy.exporters.engine.engine_source": 4,
    "glpn_deploy.exporters.to_engine": 4,
    "glpn_deploy.accuracy.baselines": 4,
    "glpn_deploy.proof.engine_proof": 4,
    "glpn_deploy.estimator": 4,
    "glpn_deploy.doctor.machine": 4,
    "glpn_deploy.doctor.machine_gpu": 4,
    "glpn_deploy.proof.parity": 4,
    "glpn_deploy.proof.parity_report": 4,
    "glpn_deploy.bundle.bundle": 2,
    "glpn_deploy.model.pretrained": 2,
    "glpn_deploy.checkpoints.files": 2,
    "glpn_deploy.checkpoints.fit": 2,
    "glpn_deploy.checkpoints.hub": 2,
    "glpn_deploy.checkpoints.original": 2,
    "glpn_deploy.bundle.engine_sidecar": 2,
    "glpn_deploy.bundle.manifest": 2,
    "glpn_deploy.depth.pictures": 2,
    "glpn_deploy.atomic": 1,
    "glpn_deploy.depth.colormap": 1,
    "glpn_deploy.gpu.cuda_device": 1,
    "glpn_deploy.depth.depth_map": 1,
    "glpn_deploy.bundle.engine_fields": 1,
    "glpn_deploy.bundle.engine_profile": 1,
    "glpn_deploy.images.batch": 1,
    "glpn_deploy.images.files": 1,
    "glpn_deploy.images.loading": 1,
    "glpn_deploy.images.processing": 1,
    "glpn_deploy.depth.error_stats": 1,
    "glpn_deploy.doctor.jetson": 1,
    "glpn_deploy.depth.metrics": 1,
    "glpn_deploy.model.modeling": 1,
    "glpn_deploy.model.decoder": 1,
    "glpn_deploy.model.encoder": 1,
    "glpn_deploy.timing.order_statistics": 1,
    "glpn_deploy.depth.point_cloud": 1,
    "glpn_deploy.images.resample": 1,
    "glpn_deploy.gpu.tensorrt_versions": 1,
    "glpn_deploy.timing.turns": 1,
    "glpn_deploy.model.config": 0,
    "glpn_deploy.errors": 0,
    "glpn_deploy.doctor.finding": 0,
    "glpn_deploy.pipeline": 0,
    "glpn_deploy.progress": 0,
}
UPWARD = {
    (
        "glpn_deploy.model.modeling",
        "glpn_deploy.model.pretrained",
    ),  # from_pretrained, on use: modeling.py says why
    (
        "glpn_deploy.benchmarks.measuring.worker",
        "glpn_deploy.accuracy.evaluation",
    ),  # one rank: accuracy beside latency, on use
}


def modules() -> dict[str, Path]:
    """Every module of the package by its installed name."""
    found = {}
    for path in sorted(ROOT.glob("glpn_deploy/**/*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if not any(part in LINKED for part in parts[1:2]):  # whether or not ** follows links
            found[".".join(parts)] = path
    for folder in LINKED:
        for path in sorted((ROOT / folder).glob("**/*.py")):
            found[".".join(("glpn_deploy", *path.relative_to(ROOT).with_suffix("").parts))] = path
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


MODULES = modules()


def rank(module: str) -> int | None:
    folder = module.split(".")[1:2]
    return RANKS.get(module, FOLDER_RANKS.get(*folder) if folder else None)


def folder_of(module: str) -> str:
    """The folder that a module's rank belongs to; folders within it are rooms of the same floor."""
    folders = MODULES[module].parent.relative_to(ROOT).parts
    return "/".join(folders[: 1 if folders[0] in LINKED else 2])


def imports(module: str) -> Iterator[tuple[str, int]]:
    """Modules of the package that a module imports anywhere in it, with the line."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if inner in MODULES else str(node.module)
                if name != "glpn_deploy" or alias.name != "__version__":
                    yield name, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name != "glpn_deploy":  # for __version__; it is imported before any module of it
                    yield alias.name, node.lineno


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_to_lower_ranks_or_stay_within_a_folder(module):
    own = rank(module)
    assert own is not None, f"{module} has no rank: give it one in this file"
    for other, line in imports(module):
        if other.split(".")[0] != "glpn_deploy" or (module, other) in UPWARD:
            continue
        assert other in MODULES, f"{module}:{line} imports {other}, which is no module"
        theirs = rank(other)
        assert theirs is not None, f"{other} has no rank: give it one in this file"
        within = folder_of(module) == folder_of(other) and theirs <= own
        assert theirs < own or within, f"{module} ({own}), line {line}, imports {other} ({theirs})"


def test_ranks_name_modules_that_exist():
    assert not RANKS.keys() - MODULES.keys()
    assert not {folder for folder in FOLDER_RANKS if f"glpn_deploy.{folder}" not in MODULES}


def test_no_circles():
    """Ranks leave room for circles among equals; there are none when modules are imported."""
    above = {}
    for module in MODULES:
        tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
        names = set()
        for node in tree.body:  # at the top only: imports on use cannot be part of a circle
            if isinstance(node, ast.ImportFrom) and node.module in MODULES:
                names |= {
                    f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in MODULES else node.module
                    for a in node.names
                }
        above[module] = names - {"glpn_deploy"}
    done: set[str] = set()
    while len(done) < len(above):
        ready = {module for module in above if module not in done and above[module] <= done}
        assert ready, f"a circle among {sorted(above.keys() - done)}"
        done |= ready


def project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_of_modules_is_packaged():
    setuptools = project()["tool"]["setuptools"]
    folders = {path.parent for path in MODULES.values()}
    packages = {
        ".".join(("glpn_deploy", *parts) if parts[0] != "glpn_deploy" else parts)
        for parts in (folder.relative_to(ROOT).parts for folder in folders)
    }
    assert sorted(setuptools["packages"]) == sorted(packages)
    mapping = {"glpn_deploy": "glpn_deploy"} | {f"glpn_deploy.{folder}": folder for folder in LINKED}
    assert setuptools["package-dir"] == mapping
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize("folder", LINKED)
def test_the_links_stand_and_are_relative(folder):
    link = ROOT / "glpn_deploy" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..") / folder
    assert link.resolve() == (ROOT / folder).resolve()


def test_every_command_leads_to_a_function():
    for target in project()["project"]["scripts"].values():
        module, function = target.split(":")
        names = {node.name for node in ast.parse(MODULES[module].read_text()).body if hasattr(node, "name")}
        assigned = {
            name.id
            for node in ast.walk(ast.parse(MODULES[module].read_text()))
            if isinstance(node, ast.Assign)
            for name in node.targets
            if isinstance(name, ast.Name)
        }
        assert function in names | assigned, f"{target} does not exist"


def test_the_version_stands_in_one_place():
    assert "version" not in project()["project"]
    assert project()["project"]["dynamic"] == ["version"]
    assert project()["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "glpn_deploy.__version__"}
    literal = f'"{glpn_deploy.__version__}"'
    assert [name for name, path in MODULES.items() if literal in path.read_text(encoding="utf-8")] == [
        "glpn_deploy"
    ]


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


HEAVY = {
    "torch",
    "numpy",
    "PIL",
    "onnx",
    "onnxruntime",
    "openvino",
    "typer",
    "rich",
    "transformers",
    "huggingface_hub",
}


def test_a_bare_import_is_light():
    assert not HEAVY & loaded_by("import glpn_deploy")
    assert not HEAVY & loaded_by(
        "import glpn_deploy; dir(glpn_deploy); glpn_deploy.GLPNConfig; glpn_deploy.GlpnError"
    )


@pytest.mark.parametrize("name", ["DepthEstimator", "DepthMap", "GLPNImageProcessor"])
def test_running_needs_no_torch(name):
    assert not {"torch", "onnx", "onnxruntime", "openvino", "transformers"} & loaded_by(
        f"from glpn_deploy import {name}"
    )


def test_public_names():
    assert sorted(glpn_deploy.__all__) == [
        "DepthEstimator",
        "DepthMap",
        "GLPNConfig",
        "GLPNFeatureExtractor",
        "GLPNForDepthEstimation",
        "GLPNImageProcessor",
        "GLPNModel",
        "GlpnError",
        "__version__",
    ]
    for name in glpn_deploy.__all__:
        assert getattr(glpn_deploy, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = glpn_deploy.Nothing
