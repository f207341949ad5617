"""README and docs: short, without dead links, and their commands and Python run as printed."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHORTER = {"glpn-bench": ["--size", "96x128", "--backend", "onnxruntime", "--precision", "fp32"]}
"""Added to what README prints, so that it takes seconds."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """The page's glpn commands, without those that need a GPU, or Ray (tests/glpn_deploy/scale runs that)."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    found = [line for line in words if line and line[0].startswith("glpn-")]
    found = [line for line in found if line[0] != "glpn-batch"]
    return [line for line in found if line[0] != "glpn-build" or "--dry-run" in line]


def test_the_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= 1000
    assert len(text.encode()) <= 8000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"(?:\]\(|src=\")([^)\s\"]+)[)\"]", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}, link


@pytest.fixture
def home(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a tiny network stands for the hub's, with photographs; two shapes are verified."""
    (tmp_path / "vinvino02").mkdir()
    (tmp_path / "vinvino02" / "glpn-nyu").symlink_to(tiny_checkpoint)
    photo = Image.fromarray(skimage.data.astronaut()).resize((160, 128))
    photo.save(tmp_path / "photo.jpg")
    (tmp_path / "photos").mkdir()
    for number in range(5):
        photo.rotate(72 * number).save(tmp_path / "photos" / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # for what glpn-bench remembers
    monkeypatch.setattr("glpn_deploy.proof.parity.SWEEP", ((1, 32, 32), (2, 64, 96)))
    return tmp_path


def call(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    module = importlib.import_module(f"glpn_deploy.cli.{words[0].removeprefix('glpn-')}")
    shorter = SHORTER.get(words[0], [])
    if shorter and "--quick" not in words:
        shorter = [*shorter, "--seconds", "0.1"]
    monkeypatch.setattr(sys, "argv", [*words, *shorter])
    with pytest.raises(SystemExit) as end:
        module.main()
    return int(end.value.code or 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:An image of .* times the sides")  # of glpn-nyu's name
def test_the_readmes_commands_and_python_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = commands(README)
    assert {"glpn-export", "glpn-predict", "glpn-verify", "glpn-build", "glpn-bench", "glpn-serve"} <= {
        words[0] for words in printed
    }
    for words in printed:
        assert call(words, monkeypatch) == 0, shlex.join(words)
    assert np.asarray(Image.open("depth/photo.depth_mm.png")).shape == (128, 160)
    for page in (README, ROOT / "docs" / "embedding.md"):
        (code,) = blocks(page, "python")
        namespace: dict[str, Any] = {}
        exec(compile(code, str(page), "exec"), namespace)
        if page == README:
            assert np.asarray(Image.open("depth.png")).shape == (128, 160)
        else:
            depth, golden = namespace["depth"], np.load("glpn-nyu/golden/1.npy")
            assert np.abs(depth[0] - golden).max() < 1e-4
