"""manifest.json: what a bundle holds, where it came from and how it was verified."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from glpn_deploy.errors import BundleError, ConfigError
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
        precision: ``fp32`` and so on.
        route: How it came about, in words.
        opset: ONNX opset.
        nodes: Nodes in the graph.
        data: Files that hold its weights where they did not fit.
        kept: Nodes kept in a higher precision.
        parity: `glpn_deploy.proof.parity.ParityReport` as a dictionary, or None where it was not verified.
        budget: Largest errors it was allowed, ``max_abs_rel`` and ``max_abs_m``; None for FP32.
        ladder: Every graph that was tried for it, with its errors; None for FP32.
        calibration: Method, number, origin and digest of the images that its ranges were found on.
        verdict: Its latency beside FP32's, where it was made.
        io: Type of its input and output: ``fp32``, or ``half`` for FP16.
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


@dataclasses.dataclass(frozen=True)
class Golden:
    """A real input and the reference's raw output for it.

    Attributes:
        image: RGB PNG within the bundle.
        depth: ``.npy`` within the bundle: ``(H, W)`` float32, metres, at the network's size.
        source: Where the image comes from.
    """

    image: str
    depth: str
    source: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    Attributes:
        name: The bundle's name.
        config: The network's hyper-parameters, ``max_depth`` in metres among them.
        preprocessing: The image processor's settings.
        tensors: Names, dtypes, shapes and units of input and output.
        source: The checkpoint: name, revision, digest, licence.
        tools: Versions of what made the bundle.
        artefacts: What can be run.
        goldens: What it is verified with.
        refused: Ladders of the precisions that were asked for and of which no graph was within budget.
        files: SHA-256 and size of every file but this one.
    """

    name: str
    config: GLPNConfig
    preprocessing: dict[str, Any]
    tensors: dict[str, Any]
    source: dict[str, Any]
    tools: dict[str, str]
    artefacts: tuple[Artefact, ...] = ()
    goldens: tuple[Golden, ...] = ()
    refused: tuple[dict[str, Any], ...] = ()
    files: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """The text of manifest.json."""
        values = dataclasses.asdict(self)
        values["config"] = self.config.to_dict()
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "max_depth": self.config.max_depth}
        return json.dumps({**head, "unit": "metres", **values}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Reads manifest.json.

        Raises:
            BundleError: Not a manifest, or of a later format.
        """
        try:
            values = json.loads(text)
            version = values["format_version"]
            if values["format"] != FORMAT or type(version) is not int or version < 1:
                raise KeyError("format")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(
                f"{where} is not a bundle's manifest ({error!r})",
                expected=f"JSON of format {FORMAT}",
                fix=RE_EXPORT,
            ) from None
        if version > FORMAT_VERSION:
            raise BundleError(
                f"{where} has format version {version}",
                expected=f"at most {FORMAT_VERSION}",
                fix="upgrade with pip install -U glpn-deploy",
            )
        try:
            return cls(
                name=str(values["name"]),
                config=GLPNConfig.from_dict(values["config"]),
                preprocessing=dict(values["preprocessing"]),
                tensors=dict(values["tensors"]),
                source=dict(values["source"]),
                tools=dict(values["tools"]),
                artefacts=tuple(_artefact(artefact) for artefact in values["artefacts"]),
                goldens=tuple(_golden(golden) for golden in values["goldens"]),
                refused=tuple(dict(ladder) for ladder in values.get("refused", ())),
                files={
                    str(k): {"sha256": str(v["sha256"]), "bytes": int(v["bytes"])}
                    for k, v in values["files"].items()
                },
            )
        except ConfigError as error:
            raise BundleError(f"{where}: {error.got}", expected=error.expected, fix=RE_EXPORT) from None
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BundleError(f"{where} is incomplete ({error!r})", fix=RE_EXPORT) from None


def _artefact(values: dict[str, Any]) -> Artefact:
    """Reads one artefact; keys of later minor additions are left out."""
    names = {field.name for field in dataclasses.fields(Artefact)}
    artefact = Artefact(
        **{
            **{name: value for name, value in values.items() if name in names},
            "data": tuple(values["data"]),
            "kept": tuple(values["kept"]),
        }
    )
    texts = (
        artefact.file,
        artefact.kind,
        artefact.precision,
        artefact.route,
        artefact.io,
        *artefact.data,
        *artefact.kept,
    )
    if not all(isinstance(text, str) for text in texts) or isinstance(values["data"], str):
        raise TypeError("artefacts")
    return artefact


def _golden(values: dict[str, Any]) -> Golden:
    golden = Golden(values["image"], values["depth"], values["source"])
    if not all(isinstance(text, str) for text in (golden.image, golden.depth, golden.source)):
        raise TypeError("goldens")
    return golden
