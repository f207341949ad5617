"""manifest.json: what a bundle holds, where it came from and how it was verified."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, TypedDict

from glpn_deploy.decoding import Document, FieldError, ReadBy, shown
from glpn_deploy.errors import BundleError
from glpn_deploy.model.config import GLPNConfig

FORMAT, FORMAT_VERSION = "glpn-deploy-bundle", 1
MANIFEST = "manifest.json"
RE_EXPORT = "export it again with glpn-export, or copy the whole folder again"


@dataclasses.dataclass(frozen=True)
class Artefact:
    """One deployable file of a bundle.

    Attributes:
        file: Path within the bundle.
        kind: ``onnx``.
        route: How it came about, in words.
        data: Files that hold its weights where they did not fit.
        kept: Nodes kept in a higher precision.
        parity: `glpn_deploy.proof.parity.ParityReport` as a dictionary, or None where it was not verified.
        budget: Largest errors it was allowed, ``max_abs_rel`` and ``max_abs_m``; None for FP32.
        ladder: Every graph that was tried for it, with its errors; None for FP32.
        calibration: Method, number, origin and digest of the images that its ranges were found on.
        verdict: Its latency beside FP32's, where it was made.
        io: Type of its input and output: ``fp32``; ``fp16`` (``half`` in older bundles); or ``uint8``, which
            takes images ``(N, H, W, 3)`` and gives FP32.
        compiled: What NVIDIA's compiler for RTX cards makes of it beside the precision it should be better
            than (`glpn_deploy.exporters.engine.explain_graphs.TrafficVerdict`), where it was asked.
    """

    file: str
    kind: str
    precision: str
    route: str
    opset: int
    nodes: int
    data: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    parity: dict[str, Any] | None = None
    budget: dict[str, Any] | None = None
    ladder: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    verdict: dict[str, Any] | None = None
    io: str = "fp32"
    compiled: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Golden:
    """A real input and the reference's raw output for it.

    Attributes:
        image: RGB PNG within the bundle.
        depth: ``.npy`` within the bundle: ``(H, W)`` float32, metres, at the network's size.
    """

    image: str
    depth: str
    source: str


class FileEntry(TypedDict):
    """Digest and size of one of the bundle's files."""

    sha256: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    Attributes:
        config: The network's hyper-parameters, ``max_depth`` in metres among them.
        tensors: Names, dtypes, shapes and units of input and output.
        source: The checkpoint: name, revision, digest, licence.
        tools: Versions of what made the bundle.
        artefacts: What can be run.
        goldens: What it is verified with.
        refused: Ladders of the precisions that were asked for and of which no graph was within budget.
        files: SHA-256 and size of every file but this one.
    """

    name: str
    config: Annotated[GLPNConfig, ReadBy(GLPNConfig.from_dict)]
    preprocessing: dict[str, Any]
    tensors: dict[str, Any]
    source: dict[str, Any]
    tools: dict[str, str]
    artefacts: tuple[Artefact, ...] = ()
    goldens: tuple[Golden, ...] = ()
    refused: tuple[dict[str, Any], ...] = ()
    files: dict[str, FileEntry] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """The text of manifest.json."""
        values = dataclasses.asdict(self)
        values["config"] = self.config.to_diff_dict()
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "max_depth": self.config.max_depth}
        return json.dumps({**head, "unit": "metres", **values}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Reads manifest.json.

        Raises:
            BundleError: Not a manifest, or of a later format.
        """
        return _DOCUMENT.read(text, where, RE_EXPORT)


def _checked_head(values: dict[str, Any]) -> dict[str, Any]:
    """Refuses a scale or a unit that contradicts the config: readers of the JSON alone go by them."""
    config = values.get("config")
    scale = config.get("max_depth", GLPNConfig().max_depth) if isinstance(config, dict) else None
    for name, value, where in (("max_depth", scale, ", as its config says"), ("unit", "metres", "")):
        if values.get(name) != value:
            raise FieldError(name, f"is {shown(values.get(name))}", f"{shown(value)}{where}")
    return values


_DOCUMENT = Document(
    into=Manifest,
    what="a bundle's manifest",
    name=FORMAT,
    version=FORMAT_VERSION,
    error=BundleError,
    upgrade=_checked_head,
)
