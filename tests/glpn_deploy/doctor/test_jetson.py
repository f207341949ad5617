"""A Jetson's own words, as boards print them, and what is made of them."""

from __future__ import annotations

import pytest

from glpn_deploy.doctor.jetson import jetpack_of, jetson_findings, parse_power, parse_release, read_jetson

# First lines of /etc/nv_tegra_release as users of each release posted them.
RELEASES = {
    "R35": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, "
    "DATE: Tue Aug  1 19:57:35 UTC 2023\n",
    "R36.3": "# R36 (release), REVISION: 3.0, GCID: 36191598, BOARD: generic, EABI: aarch64, "
    "DATE: Mon May  6 17:34:21 UTC 2024\n",
    "R36.4.3": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n",
    "R36.4.7": "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, "
    "DATE: Thu Sep 18 22:54:44 UTC 2025\n# KERNEL_VARIANT: oot\n",
    "R38.2": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 22 00:55:42 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
    "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\nINSTALL_TYPE=\n",
    "R39.2": "# R39 (release), REVISION: 2.1, GCID: 46758480, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 7 05:54:22 AM UTC 2026\n",
}


@pytest.fixture
def board(tmp_path):
    """Writes a board's files; gives a function that reads them with what its commands print."""

    def make(release=None, model="NVIDIA Jetson Orin Nano Developer Kit", clocks=None, **commands):
        files = {
            "etc/nv_tegra_release": release,
            "proc/device-tree/model": f"{model}\0",
            "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
        }
        for name, value in (clocks or {}).items():
            files[f"sys/class/devfreq/{name}"] = f"{value}\n"
        for name, text in files.items():
            if text is not None:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text)
        return read_jetson(tmp_path, lambda command: commands.get(command[0].replace("-", "_")))

    return make


@pytest.mark.parametrize(
    ("release", "l4t", "jetpack", "tensorrt"),
    [
        ("R36.3", (36, 3, 0), "6.0", "8.6.2"),
        ("R36.4.3", (36, 4, 3), "6.2", "10.3"),
        ("R36.4.7", (36, 4, 7), "6.2.1", "10.3"),
        ("R38.2", (38, 2, 0), "7.0", "10.13"),
        ("R39.2", (39, 2, 1), "7.2.1", "10.16"),
    ],
)
def test_jetpack(release, l4t, jetpack, tensorrt, board):
    jetson = board(RELEASES[release], nvpmodel="NV Power Mode: 15W\n0\n")
    assert (jetson.l4t, jetson.jetpack, jetson.tensorrt) == (l4t, jetpack, tensorrt)
    assert jetson.release == f"JetPack {jetpack} (L4T {'.'.join(map(str, l4t))})"
    found = jetson_findings(jetson)[0]
    assert (found.name, found.status) == ("jetson", "ok")
    assert found.detail.startswith("NVIDIA Jetson Orin Nano Developer Kit, JetPack")


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ((36, 2, 0), "6.0 DP"),
        ((36, 4, 0), "6.1"),
        ((36, 5, 0), "6.2.2"),
        ((36, 6, 1), "6.2.2 or later"),
        ((38, 4, 0), "7.1"),
        ((39, 2, 0), "7.2"),
        ((39, 3, 0), "7.2.2 or later"),
        ((36, 1, 0), ""),
        ((41, 0, 0), ""),
        ((32, 7, 1), ""),
        (None, ""),
    ],
)
def test_releases_between_and_beyond(l4t, jetpack):
    assert jetpack_of(l4t)[0] == jetpack


def test_jetpack_5_is_out_of_scope(board):
    found = jetson_findings(board(RELEASES["R35"]))[0]
    assert (found.status, "JetPack 5 (L4T 35.4.1)" in found.detail) == ("warning", True)
    assert "flash JetPack 6.0 or later" in found.fix


@pytest.mark.parametrize("text", ["", "# R (release)", "garbage\n", "# R36 (rel"])
def test_unreadable_release(text, board):
    assert parse_release(text) is None
    found = jetson_findings(board(text))[0]
    assert (found.status, "unknown JetPack" in found.detail) == ("warning", True)


def test_a_container_without_the_release_file(board):
    jetson = board(None, dpkg_query="36.4.3-20250107174145")
    assert (jetson.l4t, jetson.jetpack) == ((36, 4, 3), "6.2")


def test_no_jetson(tmp_path):
    assert read_jetson(tmp_path, lambda command: None) is None


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: 15W\n0\n", "15W"),
        ("NV Fan Mode:quiet\nNV Power Mode: MAXN_SUPER\n2\n", "MAXN_SUPER"),
        ("NVPM WARN: power mode is not set\n", ""),
        ("", ""),
    ],
)
def test_power_mode(text, mode):
    assert parse_power(text) == mode


@pytest.mark.parametrize(
    ("clocks", "told", "advice"),
    [
        ({"17000000.gpu/min_freq": 306000000, "17000000.gpu/max_freq": 624750000}, "follows", True),
        ({"17000000.gpu/min_freq": 624750000, "17000000.gpu/max_freq": 624750000}, "fixed", False),
        ({"gpu-gpc-0/min_freq": 315000000, "gpu-gpc-0/max_freq": 1575000000}, "follows", True),
        ({"15340000.vic/min_freq": 1, "15340000.vic/max_freq": 2}, "is not known", False),
        ({}, "is not known", False),
    ],
)
def test_clocks(clocks, told, advice, board):
    found = jetson_findings(board(RELEASES["R38.2"], clocks=clocks, nvpmodel="NV Power Mode: MAXN\n0\n"))[1]
    assert (found.name, told in found.detail, "MAXN" in found.detail) == ("power", True, True)
    assert ("jetson_clocks" in found.fix) == advice
    assert "nvpmodel -m" not in found.fix


def test_a_lower_power_mode_tells_how_to_raise_it(board):
    found = jetson_findings(board(RELEASES["R38.2"], nvpmodel="NV Power Mode: 120W\n1\n"))[1]
    assert "mode 120W" in found.detail
    assert "sudo nvpmodel -m" in found.fix
