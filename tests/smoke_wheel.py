"""Builds the wheel, installs it into environments of its own and uses it from outside the repository.

With this Python and the newest dependencies, and, where the machine has other Pythons, with the oldest one
and the lowest dependencies that the project claims, and with the newest one. Run by `make wheel-test`; not
collected by pytest, as it needs the package index.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The run-time install: no torch, no onnx. What it can run was exported by the development environment.
SCRIPT = """
import sys, numpy as np
import glpn_deploy, glpn_deploy.exporters, glpn_deploy.runtimes, glpn_deploy.benchmarks
from glpn_deploy import DepthEstimator
assert "torch" not in sys.modules
image = np.random.default_rng(0).integers(0, 256, (97, 131, 3), np.uint8)
with DepthEstimator.load("bundle") as estimator:
    depth = estimator(image).depth
assert depth.shape == (97, 131) and np.isfinite(depth).all(), depth.shape
print("depth", float(depth.min()), float(depth.max()))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command, shows it, and returns what it printed."""
    print("+", *command, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True)
    print(done.stdout, done.stderr, sep="", flush=True)
    if done.returncode:
        sys.exit(f"failed with status {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def pythons() -> Iterator[Path]:
    """Other supported Pythons of this machine, the oldest first; of a version, the first that answers."""
    for minor in range(10, 15):
        if minor == sys.version_info.minor:
            continue
        name = f"python3.{minor}"
        on_path = shutil.which(name)
        found = sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/{name}"))
        for python in ([Path(on_path)] if on_path else []) + found:
            if subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
                yield python
                break


def lowest(wheel: Path) -> list[str]:
    """The lowest versions that the wheel's base and its extra ``cpu`` claim, as requirements."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    required = re.findall(r"^Requires-Dist: ([\w-]+)>=([\d.]+)(.*)$", metadata, re.MULTILINE)
    base = [
        (package, version)
        for package, version, rest in required
        if not rest or "'cpu'" in rest or '"cpu"' in rest
    ]
    return [f"{package}~={version}{'.0' if version.count('.') == 1 else '.0.0'}" for package, version in base]


def trial(python: str | Path, wheel: Path, bundle: Path, folder: Path, pins: list[str]) -> None:
    """Installs the wheel beside nothing, runs, verifies and predicts."""
    run(python, "-m", "venv", folder / "venv", cwd=bundle.parent)
    commands = folder / "venv" / "bin"
    wanted = f"glpn-deploy[cpu] @ {wheel.as_uri()}"
    run(commands / "python", "-m", "pip", "install", "--quiet", wanted, *pins, cwd=bundle.parent)
    run(commands / "python", "-c", SCRIPT, cwd=bundle.parent)
    report = json.loads(run(commands / "glpn-verify", bundle.name, "--json", cwd=bundle.parent))
    if not report["passed"]:
        sys.exit("glpn-verify did not pass")
    run(commands / "glpn-doctor", cwd=bundle.parent)
    picture = bundle / "golden" / "0.png"
    run(commands / "glpn-predict", bundle, picture, "--out", folder / "depth", cwd=folder)


def main() -> None:
    """Builds, installs, exports, predicts, verifies."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
        (wheel,) = folder.glob("*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        top = {entry.split("/")[0] for entry in names if ".dist-info/" not in entry}
        if top != {"glpn_deploy"}:
            sys.exit(f"the wheel puts {sorted(top)} into site-packages; expected glpn_deploy alone")
        for room in ("glpn_deploy", "exporters", "runtimes", "benchmarks"):
            for init in (ROOT / room).glob("**/__init__.py"):
                if init.parent == ROOT / "benchmarks" / "claims":
                    continue  # measures the repository's own figures
                installed = Path("glpn_deploy") / init.relative_to(
                    ROOT / "glpn_deploy" if room == "glpn_deploy" else ROOT
                )
                if installed.as_posix() not in names:
                    sys.exit(f"the wheel lacks {installed.parent}")
        run(Path(sys.executable).parent / "glpn-export", "demo", "bundle", cwd=folder)
        others = list(pythons())
        trials: list[tuple[str | Path, list[str]]] = [(sys.executable, [])]
        trials += [(others[0], lowest(wheel))] if others else []
        trials += [(others[-1], [])] if len(others) > 1 else []
        for number, (python, pins) in enumerate(trials):
            (folder / str(number)).mkdir()
            trial(python, wheel, folder / "bundle", folder / str(number), pins)
    print(f"the wheel works outside the repository, in {len(trials)} environments")


if __name__ == "__main__":
    main()
