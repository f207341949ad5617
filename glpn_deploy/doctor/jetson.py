"""What a Jetson says of itself: board, JetPack, power mode, clocks. Nothing here needs root or a package."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from glpn_deploy.doctor.finding import Finding, Run
from glpn_deploy.gpu.tensorrt_versions import parse_version

_RELEASE = "etc/nv_tegra_release"
_MODEL = "proc/device-tree/model"
_COMPATIBLE = "proc/device-tree/compatible"
_DEVFREQ = "sys/class/devfreq"
_GPU_CLOCK = re.compile(r"gpu|ga10b|gb10b")  # 17000000.gpu on Orin, gpu-gpc-0 on Thor

# L4T (Jetson Linux) to JetPack and the TensorRT it brings, the newest first; a release takes the first line
# that is not newer than itself. From NVIDIA's JetPack archive.
_JETPACKS: tuple[tuple[tuple[int, int, int], str, str], ...] = (
    ((39, 2, 2), "7.2.2", "11.4"),
    ((39, 2, 1), "7.2.1", "10.16"),
    ((39, 2, 0), "7.2", "10.16"),
    ((38, 4, 0), "7.1", "10.13"),
    ((38, 2, 0), "7.0", "10.13"),
    ((36, 5, 0), "6.2.2", "10.3"),
    ((36, 4, 4), "6.2.1", "10.3"),
    ((36, 4, 3), "6.2", "10.3"),
    ((36, 4, 0), "6.1", "10.3"),
    ((36, 3, 0), "6.0", "8.6.2"),
    ((36, 2, 0), "6.0 DP", "8.6.2"),
)
OLDEST = (36, 0, 0)


@dataclasses.dataclass(frozen=True)
class Jetson:
    """One board.

    Attributes:
        model: As the device tree calls it; empty where it does not.
        l4t: Release of Jetson Linux, such as (36, 4, 3), or None.
        jetpack: JetPack of that release (``6.2``), or empty.
        tensorrt: The TensorRT that JetPack brings (``10.3``), or empty.
        power: The power mode (``15W``, ``MAXN``), or empty where `nvpmodel` does not tell.
        clocks_fixed: Whether the GPU's clock is held at one value, as `jetson_clocks` does; None where the
            system does not tell.
    """

    model: str
    l4t: tuple[int, int, int] | None
    jetpack: str
    tensorrt: str
    power: str
    clocks_fixed: bool | None

    @property
    def release(self) -> str:
        """JetPack and Jetson Linux in words."""
        if self.l4t is None:
            return "unknown JetPack"
        text = "L4T " + ".".join(map(str, self.l4t))
        return f"JetPack {self.jetpack} ({text})" if self.jetpack else f"unknown JetPack ({text})"


def read_jetson(root: Path, run: Run) -> Jetson | None:
    """Reads what the board says; None where this is no Jetson.

    Containers may lack the release file: the board then shows in the device tree, and the release in the
    package ``nvidia-l4t-core``, where that is installed.
    """
    text, board = _read(root / _RELEASE), _read(root / _COMPATIBLE)
    if text is None and "nvidia,tegra" not in (board or ""):
        return None
    l4t = parse_release(text or "")
    if l4t is None:
        package = run(["dpkg-query", "--show", "--showformat=${Version}", "nvidia-l4t-core"])
        l4t = parse_version(package or "")
    jetpack, tensorrt = jetpack_of(l4t)
    return Jetson(
        model=(_read(root / _MODEL) or "").strip("\0\n "),
        l4t=l4t,
        jetpack=jetpack,
        tensorrt=tensorrt,
        power=parse_power(run(["nvpmodel", "-q"]) or ""),
        clocks_fixed=_clocks_fixed(root / _DEVFREQ),
    )


def parse_release(text: str) -> tuple[int, int, int] | None:
    """``# R36 (release), REVISION: 4.3, GCID: ...`` gives (36, 4, 3)."""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def jetpack_of(l4t: tuple[int, int, int] | None) -> tuple[str, str]:
    """JetPack and its TensorRT by the release of Jetson Linux; empty where the release is not known.

    A release newer than the newest known one of its major is taken for that JetPack "or later".
    """
    if l4t is None:
        return "", ""
    if l4t[0] in (34, 35):
        return "5", "8.5 or older"
    known = [line for line in _JETPACKS if line[0][0] == l4t[0]]
    for since, jetpack, tensorrt in known:
        if l4t >= since:
            later = " or later" if since == known[0][0] and l4t > since else ""
            return jetpack + later, tensorrt
    return "", ""


def parse_power(text: str) -> str:
    """``NV Power Mode: 15W`` and the mode's number on the next line give ``15W``."""
    found = re.search(r"NV Power Mode\s*:\s*(\S+)", text)
    return found[1] if found else ""


def jetson_findings(jetson: Jetson) -> list[Finding]:
    """Board and JetPack, and power mode with clocks."""
    board = f"{jetson.model or 'Jetson'}, {jetson.release}"
    if jetson.l4t is not None and jetson.l4t < OLDEST:
        fix = "flash JetPack 6.0 or later: JetPack 5 (TensorRT 8.5) cannot read LayerNormalization"
        found = Finding("jetson", "warning", board, fix)
    elif not jetson.jetpack:
        fix = "see cat /etc/nv_tegra_release; JetPack 6.0 to 7.2 are known, others may work"
        found = Finding("jetson", "warning", board, fix)
    else:
        found = Finding("jetson", "ok", f"{board}, which brings TensorRT {jetson.tensorrt}")
    return [found, _power(jetson)]


def _power(jetson: Jetson) -> Finding:
    clocks = {
        True: "the GPU clock is fixed",
        False: "the GPU clock follows the load",
        None: "the GPU clock is not known",
    }
    detail = f"mode {jetson.power or 'unknown (nvpmodel -q does not tell)'}, {clocks[jetson.clocks_fixed]}"
    fixes = []
    if jetson.power and not jetson.power.startswith("MAXN"):
        fixes.append("sudo nvpmodel -p --verbose lists the modes, sudo nvpmodel -m NUMBER sets one")
    if jetson.clocks_fixed is False:
        fixes.append("sudo jetson_clocks holds the clocks, before you measure")
    return Finding("power", "ok", detail, "; ".join(fixes))


def _clocks_fixed(folder: Path) -> bool | None:
    """Whether the lowest and the highest clock allowed are one."""
    try:
        names = sorted(path for path in folder.iterdir() if _GPU_CLOCK.search(path.name))
    except OSError:
        return None
    for path in names:
        low, high = _read(path / "min_freq"), _read(path / "max_freq")
        if low is not None and high is not None:
            return low.strip() == high.strip()
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
