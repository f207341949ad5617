"""A bundle as the hub's ONNX repositories are laid out, where transformers.js and Optimum look for files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from glpn_deploy.bundle.manifest import Artefact
from glpn_deploy.images.processing import CONFIG_NAME
from glpn_deploy.precisions import Precision

HUB_FOLDER = "onnx"
_SUFFIXES: dict[Precision, str] = {"fp32": "", "int8": "_quantized"}  # transformers.js' dtypes fp32 and q8


def to_hub_layout(folder: Path, artefacts: Sequence[Artefact]) -> tuple[Artefact, ...]:
    """Moves a bundle's ONNX files into ``onnx/`` under the names that transformers.js knows.

    ``model.onnx``, ``model_fp16.onnx`` and ``model_quantized.onnx`` (INT8). Its image processors are known by
    their old names alone, so that ``preprocessor_config.json`` has that; transformers reads both.

    Returns:
        The artefacts in their new places.
    """
    place = folder / HUB_FOLDER
    place.mkdir()
    moved = []
    for artefact in artefacts:
        suffix = next((s for p, s in _SUFFIXES.items() if p == artefact.precision), f"_{artefact.precision}")
        name = f"model{suffix}.onnx"
        (folder / artefact.file).rename(place / name)
        for data in artefact.data:  # the graph says its name, beside itself
            (folder / data).rename(place / data)
        data_files = tuple(f"{HUB_FOLDER}/{data}" for data in artefact.data)
        moved.append(dataclasses.replace(artefact, file=f"{HUB_FOLDER}/{name}", data=data_files))
    settings = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    del settings["image_processor_type"]
    settings["feature_extractor_type"] = "GLPNFeatureExtractor"
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    return tuple(moved)
