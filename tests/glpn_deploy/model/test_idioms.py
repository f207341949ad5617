"""What people write with transformers' five GLPN classes does the same with ours, or both refuse it."""

from __future__ import annotations

import ast
import copy
import io
import json
import logging
import pickle
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn
from torch.nn import functional as F

import glpn_deploy

IDIOMS = [
    line
    for line in (Path(__file__).parent / "idioms.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
VALUES = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 20, 32],
    "mlp_ratios": [1, 1, 1, 1],
    "decoder_hidden_size": 12,
}
_STRICT = "a network is never filled up with random numbers unasked: strict=False does"
_STALE = "what an earlier save left goes: loading would take it for the weights"
_FLOATS = "0 to 1 is not divided by 255 once more"
_RGB = "the network takes RGB, and so every image becomes RGB"
DIFFERENT = {
    "GLPNConfig(max_depth=9.5).max_depth": "depth ranges need not be whole",
    "GLPNConfig.from_pretrained(tmp)": "a folder without config.json is no network with HF's defaults",
    "try_(lambda: GLPNConfig.from_pretrained(tmp), OSError)": "as above",
    "GLPNForDepthEstimation.from_pretrained(encoder_folder).training": _STRICT,
    'model.save_pretrained(folder / "config.json")': "what cannot be written is an error, not a log",
    'processor(image.convert("L"), return_tensors="np").pixel_values': _RGB,
    'processor(image.convert("RGBA"), return_tensors="np").pixel_values': _RGB,
    'processor(np.concatenate([array, array[:, :, :1]], axis=2), return_tensors="np").pixel_values': _RGB,
    'processor((array / 255).astype(np.float32), return_tensors="np").pixel_values': _FLOATS,
    'processor(array > 100, return_tensors="np").pixel_values': "true is white, not nearly black",
    'model.save_pretrained(tmp, max_shard_size="8KB"); model.save_pretrained(tmp); '
    'sorted(p.name for p in tmp.glob("model*"))': _STALE,
    "model.save_pretrained(tmp); model.save_pretrained(tmp, max_shard_size=8000); "
    '(tmp / "model.safetensors").is_file()': _STALE,
    "processor([])": "a batch of nothing is a mistake",
}
NAMES = ("GLPNConfig", "GLPNModel", "GLPNForDepthEstimation", "GLPNImageProcessor")


class LoRA(nn.Module):
    """An adapter of rank 2 around a linear layer, as peft puts it in its place."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Linear(base.in_features, 2, bias=False)
        self.b = nn.Linear(2, base.out_features, bias=False)
        nn.init.constant_(self.a.weight, 0.1)
        nn.init.constant_(self.b.weight, 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.b(self.a(x))


def try_(call: Any, kind: type[Exception]) -> str:
    try:
        call()
    except kind:
        return "caught"
    return "passed"


class Refused:
    """An idiom that raises: which error is each library's own business."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused)

    def __repr__(self) -> str:
        return f"{type(self.error).__name__}: {str(self.error)[:150]}"


class Library:
    """The classes of one library, with a network whose weights are the same in both."""

    def __init__(self, ours: bool, place: Path) -> None:
        if ours:
            self.classes = {name: getattr(glpn_deploy, name) for name in NAMES}
        else:
            self.classes = {name: getattr(transformers, name) for name in NAMES[:3]}
            from transformers.models.glpn.image_processing_pil_glpn import GLPNImageProcessorPil

            self.classes["GLPNImageProcessor"] = GLPNImageProcessorPil
        self.place = place
        model = self.classes["GLPNForDepthEstimation"](self.classes["GLPNConfig"](**VALUES))
        model.load_state_dict(torch.load(place / "weights.pt"))
        self.model = model.eval()
        torch.manual_seed(0)
        self.x = torch.rand(1, 3, 64, 96)
        self.image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8))

    def run(self, idiom: str) -> Any:
        """The value of the idiom's last expression, or that it was refused."""
        tmp = self.place / "tmp"
        if "tmp" in idiom:
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir()
        reads = {node.id for node in ast.walk(ast.parse(idiom)) if isinstance(node, ast.Name)}
        model = copy.deepcopy(self.model) if reads & {"model", "encoder"} else self.model  # it may be changed
        names = {
            **self.classes,
            **{"LoRA": LoRA, "try_": try_, "SimpleNamespace": SimpleNamespace, "Path": Path, "Image": Image},
            **{"torch": torch, "np": np, "json": json, "copy": copy, "pickle": pickle, "io": io},
            **{"F": F, "nn": nn, "pipeline": transformers.pipeline, "values": dict(VALUES)},
            "model": model,
            "encoder": model.glpn,
            "config": self.classes["GLPNConfig"](**VALUES),
            "processor": self.classes["GLPNImageProcessor"](),
            "image": self.image,
            "array": np.asarray(self.image),
            "x": self.x,
            "labels": (self.x[:, 0] * 12 - 1).clamp_min(0),
            "folder": self.place / "checkpoint",
            "half": self.place / "half",
            "encoder_folder": self.place / "encoder",
            "tmp": tmp,
        }
        tree = ast.parse(idiom)
        last: Any = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if "out" in reads and "out = " not in idiom:
                    names["out"] = model(self.x)
                exec(compile(tree, "idiom", "exec"), names)
                return (
                    names.get("y")
                    if last is None
                    else eval(compile(ast.Expression(last.value), "i", "eval"), names)
                )
            except Exception as error:  # of any kind: the other library's must fail as well
                return Refused(error)


def same(a: Any, b: Any) -> bool:
    """Whether two results agree: tensors within rounding, everything else exactly."""
    if isinstance(a, torch.Tensor | np.ndarray):
        if type(a) is not type(b) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        one, two = (
            t.detach().double().numpy() if isinstance(t, torch.Tensor) else t.astype(np.float64)
            for t in (a, b)
        )
        rounding = 1e-2 if "float16" in str(a.dtype) else 1e-5
        scale = max(1.0, float(np.abs(two).max(initial=0)))
        return bool(np.allclose(one, two, rtol=0, atol=rounding * scale, equal_nan=True))
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        ours, theirs = (set(d) - {"transformers_version"} for d in (a, b))
        return ours == theirs and all(same(a[key], b[key]) for key in ours)
    if isinstance(a, float):
        return isinstance(b, float) and abs(a - b) <= 1e-6 * max(1.0, abs(b))
    if isinstance(a, int) and not isinstance(a, bool):  # Pillow's filters are numbers with names
        return isinstance(b, int) and a == b
    return type(a) is type(b) and bool(a == b)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    place = tmp_path_factory.mktemp("idioms")
    logging.disable(logging.WARNING)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    theirs = transformers.GLPNForDepthEstimation(transformers.GLPNConfig(**VALUES)).eval()
    for name, tensor in theirs.state_dict().items():  # away from where initialisation puts every network
        if tensor.is_floating_point():
            noise = 0.2 * torch.randn_like(tensor)
            tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    torch.save(theirs.state_dict(), place / "weights.pt")
    theirs.save_pretrained(place / "checkpoint")
    theirs.glpn.save_pretrained(place / "encoder")
    glpn_deploy.GLPNImageProcessor().save_pretrained(place / "checkpoint")
    copy.deepcopy(theirs).half().save_pretrained(place / "half")
    yield Library(True, place), Library(False, place)
    torch.set_num_threads(threads)
    logging.disable(logging.NOTSET)


def test_the_list_is_long_and_nearly_all_of_it_is_the_same():
    assert len(IDIOMS) == len(set(IDIOMS)) >= 350
    assert len(DIFFERENT) <= 0.07 * len(IDIOMS)
    assert not set(DIFFERENT) - set(IDIOMS)


@pytest.mark.parametrize("idiom", IDIOMS)
def test_the_same_as_in_transformers(idiom, libraries):
    ours, theirs = (library.run(idiom) for library in libraries)
    if idiom in DIFFERENT:
        assert not same(ours, theirs), f"no longer different ({DIFFERENT[idiom]}): take it off the list"
    else:
        assert same(ours, theirs), f"ours {ours!r}\ntheirs {theirs!r}"
