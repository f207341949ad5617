"""How much ``pip install "glpn-deploy[jetson]"`` adds to a Jetson.

``python -m glpn_deploy.benchmarks.claims.jetson_size`` downloads the wheels that pip takes for aarch64, by
Python version, and counts what they unpack to. Nothing is installed. Markers within the dependencies are
judged by the Python that runs this.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import importlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JETPACKS = {"3.10": "6.0 to 6.2 (CUDA 12)", "3.12": "7.0 to 7.2 (CUDA 13)"}
# What glibc 2.35 (JetPack 6) takes; JetPack 7 has 2.39.
_PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in (17, 24, 26, 27, 28, 31, 34, 35)]
_LIMIT_MB = 60


def requirements(python: str) -> list[str]:
    """The base's and the jetson extra's requirements for a Python version, markers taken off."""
    from packaging.requirements import Requirement

    tomllib = importlib.import_module("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = []
    for text in [*project["dependencies"], *project["optional-dependencies"]["jetson"]]:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            found.append(f"{requirement.name}{requirement.specifier}")
    return found


def download(python: str, wanted: list[str], folder: Path) -> list[Path]:
    """Downloads the wheels that pip takes on aarch64, and builds this project's own.

    Raises:
        CalledProcessError: pip finds no set of wheels.
    """
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    how = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    subprocess.run([*pip, "download", *how, "--dest", str(folder), *wanted], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    return sorted(folder.glob("*.whl"))


def unpacked_bytes(wheel: Path, folder: Path) -> tuple[int, int]:
    """Bytes of a wheel's files, and of the bytecode that pip makes of them.

    Args:
        wheel: The wheel.
        folder: An empty folder to unpack it in.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    files = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    with contextlib.redirect_stdout(io.StringIO()):
        compileall.compile_dir(folder, quiet=2)
    return files, sum(path.stat().st_size for path in folder.rglob("*.pyc"))


def table(sizes: dict[str, tuple[int, int]]) -> str:
    """Package, unpacked and with bytecode [MB], the largest first; sums with and without numpy."""
    rows = ["| package | unpacked | with bytecode |", "|---|---|---|"]
    for name, (files, code) in sorted(sizes.items(), key=lambda item: -sum(item[1])):
        rows.append(f"| {name} | {files / 1e6:.1f} MB | {(files + code) / 1e6:.1f} MB |")
    for label, without in (("all", ""), ("all but numpy", "numpy")):
        kept = [size for name, size in sizes.items() if not without or not name.startswith(f"{without} ")]
        files, code = (sum(size[i] for size in kept) for i in (0, 1))
        rows.append(f"| **{label}** | **{files / 1e6:.1f} MB** | **{(files + code) / 1e6:.1f} MB** |")
    return "\n".join(rows)


def main() -> None:
    """Measures for each JetPack's Python and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", choices=JETPACKS, nargs="*", default=list(JETPACKS))
    for python in parser.parse_args().python:
        sizes = {}
        with tempfile.TemporaryDirectory() as name:
            wheels = Path(name) / "wheels"
            wheels.mkdir()
            for wheel in download(python, requirements(python), wheels):
                package = " ".join(wheel.name.split("-")[:2])
                sizes[package] = unpacked_bytes(wheel, Path(name) / package.replace(" ", "-"))
        print(f"\nJetPack {JETPACKS[python]}, Python {python}; asked: at most {_LIMIT_MB} MB\n")
        print(table(sizes))


if __name__ == "__main__":
    main()
