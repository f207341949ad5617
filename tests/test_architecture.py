"""The house keeps its order: who may import whom, what is packaged, and what a bare import costs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import glpn_deploy

ROOT = Path(__file__).parent.parent
LINKED = ("exporters", "runtimes", "benchmarks")  # at the top; sub-packages when installed

# The house, from the ground up. A module imports from lower floors, or within its room; rooms of one floor
# do not know each other. A file in a room needs no line here. `glpn_deploy` without a room is its own files.
FLOORS: tuple[dict[str, str], ...] = (
    {"errors": "one exception family", "precisions": "the table of precisions"},
    {
        "atomic": "files whole or not at all",
        "decoding": "JSON into dataclasses",
        "optional": "packages that may be missing",
        "options": "options declared once",
        "reading": "small files from anyone, bounded",
        "pipeline": "work in step",
        "progress": "long work told of",
    },
    {
        "checkpoints": "checkpoint files, found and read into tensors",
        "gpu": "what the CUDA driver and TensorRT's versions say",
        "timing": "measuring in turns, order statistics",
    },
    {"images": "files and arrays -> the network's input"},
    {
        "model": "the network in torch, loading and saving itself",
        "depth": "the result: metres, files, errors",
    },
    {
        "bundle": "the deployable folder",
        "datasets": "images with ground truth",
        "exporters/graph": "ONNX graphs written, read, cut and typed",
    },
    {
        "runtimes": "one file a backend",
        "streaming": "images read, run and enlarged beside each other",
        "training": "the paper's recipe",
    },
    {
        "estimator": "DepthEstimator: processor + runtime + post-processing",
        "proof": "did the depth change?",
        "doctor": "what this machine can run",
    },
    {"video": "frames of clips and cameras, and what their depth is saved as"},
    {"accuracy": "data set + estimator -> figures"},
    {"exporters": "build time: one arrow a file"},
    {"scale": "archives on many workers, services"},
    {"benchmarks": "latency: measured, compared, reported"},
    {"cli": "one file a command"},
    {"__main__": "python -m glpn_deploy", "benchmarks/claims": "figures that README and docs state"},
)
MOST_FILES = 10  # at a room's root; more have a reason
MORE_FILES = {
    "benchmarks/claims": "a file a section of figures, and the commands over them",
    "benchmarks/workload": "what is measured, and a file a kind of peer",
    "cli": "a file a command, ten of them, the one that calls them, and what they share",
    "cli/working": "a file a command, and what two of them share",
    "exporters": "one arrow a file, six of them, and what makes bundles and engines by them",
    "exporters/engine": "what a build is told and says, how it is watched, and what is read of the result",
    "exporters/graph": "a file a form that networks are written in, and what cuts and types them",
    "glpn_deploy": "the ground floor, the estimator, and `python -m glpn_deploy`",
    "proof": "parity, artefacts and engines: a check and a report of each",
    "runtimes": "a file a backend, five of them",
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
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
PUBLIC = {"glpn_deploy"}  # the public names, imported on use: above all that it names


def room_of(module: str) -> str:
    """The room in the table that a module belongs to: the innermost one."""
    path = module.split(".")[1:]
    for length in range(len(path), 0, -1):
        if (name := "/".join(path[:length])) in FLOOR:
            return name
    raise AssertionError(
        f"{module} is in no room of FLOORS in {Path(__file__).name}: move it, or add its room"
    )


def imports(module: str) -> Iterator[tuple[str, int]]:
    """Modules of the package that a module imports anywhere in it, with the line."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if inner in MODULES else str(node.module)
                if name.split(".")[0] == "glpn_deploy" and name not in PUBLIC:
                    assert name in MODULES, f"{module}:{node.lineno} imports {name}, which is no module"
                    yield name, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "glpn_deploy" and alias.name not in PUBLIC:
                    yield alias.name, node.lineno


@pytest.mark.parametrize("module", sorted(MODULES.keys() - PUBLIC))
def test_imports_point_to_lower_floors_or_stay_within_a_room(module):
    room = room_of(module)
    for other, line in imports(module):
        theirs = room_of(other)
        assert theirs == room or FLOOR[theirs] < FLOOR[room], (
            f"{module}, line {line}, imports {other}: {room} is on floor {FLOOR[room]}, "
            f"{theirs} on floor {FLOOR[theirs]}"
        )


def test_no_circles():
    """Among files, imports on use and for types included."""
    below = {module: {name for name, _ in imports(module)} for module in MODULES.keys() - PUBLIC}
    done: set[str] = set()
    while len(done) < len(below):
        ready = {module for module in below if module not in done and below[module] <= done | {module}}
        assert ready, f"a circle among {sorted(below.keys() - done)}"
        done |= ready


def test_the_table_names_rooms_that_exist():
    assert not [room for room in FLOOR if f"glpn_deploy.{room.replace('/', '.')}" not in MODULES]


def test_a_folder_holds_no_more_files_than_one_can_look_through():
    counts = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    for folder, count in counts.items():
        name = folder.relative_to(ROOT).as_posix().removeprefix("glpn_deploy/")
        assert count <= MOST_FILES or name in MORE_FILES, f"{folder} holds {count} files: make rooms in it"


def project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


IN_A_CLONE_ONLY = ("benchmarks/claims",)  # measures this repository's own figures


def test_every_folder_of_modules_is_packaged():
    setuptools = project()["tool"]["setuptools"]
    folders = {path.parent for path in MODULES.values()} - {ROOT / folder for folder in IN_A_CLONE_ONLY}
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
    if link.is_file():
        pytest.skip("git made no links here; only editors and type checkers need them")
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


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.sh")), ids=lambda script: script.name)
def test_what_a_script_imports_is_there(script):
    for module, name in re.findall(
        r"^from (glpn_deploy[\w.]*) import (\w+)$", script.read_text(), re.MULTILINE
    ):
        assert hasattr(importlib.import_module(module), name), f"{script.name}: no {name} in {module}"


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
    errors = {name for name, value in vars(glpn_deploy.errors).items() if isinstance(value, type)}
    assert {*glpn_deploy.__all__} - errors == {
        "DepthEstimator",
        "DepthMap",
        "GLPNConfig",
        "GLPNFeatureExtractor",
        "GLPNForDepthEstimation",
        "GLPNImageProcessor",
        "GLPNModel",
        "ImageSource",
        "Intrinsics",
        "__version__",
    }
    assert errors < {*glpn_deploy.__all__}
    for name in glpn_deploy.__all__:
        assert getattr(glpn_deploy, name) is not None
    unknown = "Nothing"
    with pytest.raises(AttributeError, match=f"has no attribute '{unknown}'"):
        getattr(glpn_deploy, unknown)
