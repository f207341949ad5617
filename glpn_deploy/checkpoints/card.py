"""What a checkpoint's model card says: licence, and what the network was trained on. Light: no torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glpn_deploy.reading import check_regular

_MOST_FRONT = 1 << 16  # characters of a README that its front matter is looked for in
_TRAIN_SIZES = {"glpn-nyu": (480, 640), "glpn-kitti": (352, 1216)}  # the authors', whose cards do not say it
FOR_PHOTOGRAPHS = "for photographs export vinvino02/glpn-nyu (its authors allow non-commercial use)"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a network comes from, as far as it says so.

    Attributes:
        licence: ``license_name`` or ``license`` of the card, or the name of a licence file.
        trained_on: The card's ``trained_on``, where it was trained on one kind of image only.
        train_size: Height and width [px] of those images, the card's ``train_size: HxW``: accuracy falls the
            further images are from it.
    """

    licence: str | None = None
    trained_on: str | None = None
    train_size: tuple[int, int] | None = None

    @classmethod
    def of_manifest(cls, source: Mapping[str, Any]) -> Origin:
        """As a bundle's manifest says it; bundles of before do not say all."""
        size = source.get("train_size")
        both = (
            isinstance(size, (list, tuple))
            and len(size) == 2
            and all(type(side) is int and side > 0 for side in size)
        )
        train_size = (size[0], size[1]) if both and size is not None else None
        return cls(_line(source.get("licence")), _line(source.get("trained_on")), train_size)

    @property
    def advice(self) -> str:
        """What has to be known before photographs are given to it; empty where nothing is known."""
        return f"trained on {self.trained_on} only: {FOR_PHOTOGRAPHS}" if self.trained_on else ""


def read_card(checkpoint: str | Path) -> Origin:
    """What the front matter of ``README.md`` says, in a checkpoint's folder or beside its file.

    At which size the authors' own networks were trained is known by their names.
    """
    folder = Path(checkpoint)
    folder = folder if folder.is_dir() else folder.parent
    cached = folder.parent.parent.name if folder.parent.name == "snapshots" else ""
    name = cached.removeprefix("models--vinvino02--") or folder.name
    try:
        check_regular(folder / "README.md")
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_FRONT)
    except OSError:
        text = ""
    front = re.match(r"---[ \t]*\n(.*?)\n---", text, re.DOTALL)

    def said(key: str, value: str) -> re.Match[str] | None:
        return re.search(rf"^{key}:\s*{value}", front[1], re.MULTILINE) if front else None

    word = r"(?:-\s*)?['\"]?([^\s'\"#]+)"
    licence = said("license_name", word) or said("license", word)  # ``license: other`` has a name of its own
    files = sorted(p.name for p in folder.glob("*") if re.match(r"(licen[cs]e|copying)\b", p.name, re.I))
    trained_on, size = said("trained_on", r"([^\n#]*[^\s#])"), said("train_size", r"(\d+)x(\d+)\s*$")
    return Origin(
        licence=licence[1] if licence else next(iter(files), None),
        trained_on=_line(trained_on[1]) if trained_on else None,
        train_size=(int(size[1]), int(size[2])) if size else _TRAIN_SIZES.get(name),
    )


def _line(text: object) -> str | None:
    """A stranger's text, if it can be shown on a line."""
    return text if isinstance(text, str) and text.isprintable() and 0 < len(text) <= 80 else None
