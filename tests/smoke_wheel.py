"""Builds the wheel, installs it into an environment of its own and uses it from outside the repository.

Run by `make wheel-test`; not collected by pytest, as it needs the package index.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
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
                installed = Path("glpn_deploy") / init.relative_to(
                    ROOT / "glpn_deploy" if room == "glpn_deploy" else ROOT
                )
                if installed.as_posix() not in names:
                    sys.exit(f"the wheel lacks {installed.parent}")
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", f"glpn-deploy[cpu] @ {wheel.as_uri()}", cwd=folder)
        commands = folder / "venv" / "bin"
        run(Path(sys.executable).parent / "glpn-export", "demo", "bundle", cwd=folder)
        run(python, "-c", SCRIPT, cwd=folder)
        report = json.loads(run(commands / "glpn-verify", "bundle", "--json", cwd=folder))
        if not report["passed"]:
            sys.exit("glpn-verify did not pass")
        run(commands / "glpn-doctor", cwd=folder)
        run(commands / "glpn-predict", "bundle", "bundle/golden/0.png", "--out", "depth", cwd=folder)
    print("the wheel works outside the repository")


if __name__ == "__main__":
    main()
