"""The authors' checkpoints (vinvino02/GLPDepth): their tensor names in HF's, and the config from shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from glpn_deploy.errors import CheckpointError

_BLOCK_PARTS = {
    "norm1": "layer_norm_1",
    "norm2": "layer_norm_2",
    "attn.q": "attention.self.query",
    "attn.sr": "attention.self.sr",
    "attn.norm": "attention.self.layer_norm",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "mlp.dense1",
    "mlp.dwconv.dwconv": "mlp.dwconv.dwconv",
    "mlp.fc2": "mlp.dense2",
}
_EMBED_PARTS = {"proj": "proj", "norm": "layer_norm"}
_DECODER_PARTS = {"bot_conv": "0", "skip_conv1": "1", "skip_conv2": "2"}

_EMBED = re.compile(r"encoder\.patch_embed(\d+)\.(\w+)\.(\w+)")
_BLOCK = re.compile(r"encoder\.block(\d+)\.(\d+)\.([\w.]+)\.(\w+)")
_NORM = re.compile(r"encoder\.norm(\d+)\.(\w+)")
_SKIP = re.compile(r"decoder\.(\w+)\.(\w+)")
_FUSION = re.compile(r"decoder\.fusion(\d+)\.conv(\d+)\.([\w.]+)")
_HEAD = re.compile(r"last_layer_depth\.([\w.]+)")

_MOST_STAGES = 8  # GLPN has 4; every one is searched for among all names
ENCODER_ONLY = (
    "it holds an encoder only; give a checkpoint trained for depth, or load it with GLPNModel.from_pretrained"
)


def is_original(names: Mapping[str, Tensor]) -> bool:
    """Whether tensor names are the authors' (or those of a bare Mix Transformer, as ``mit_b4.pth``)."""
    return any(name.removeprefix("encoder.").startswith("patch_embed1.") for name in names)


def to_hf_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the authors' tensors to HF's names and splits their joint key-value projections.

    Names that are not the authors' stay as they are, for the strict check to report.
    """
    bare = not any(name.startswith("encoder.") for name in tensors)  # MiT: the encoder without a prefix
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = f"encoder.{name}" if bare else name
        match = _BLOCK.fullmatch(full)
        if match and match[3] == "attn.kv" and tensor.ndim:
            start = f"glpn.encoder.block.{int(match[1]) - 1}.{match[2]}.attention.self"
            key, value = tensor.tensor_split(2)
            renamed[f"{start}.key.{match[4]}"], renamed[f"{start}.value.{match[4]}"] = (
                key.clone(),
                value.clone(),
            )
        else:
            renamed[_rename(full) or name] = tensor
    return renamed


def _rename(name: str) -> str | None:
    """HF's name for one of the authors', or None."""
    if (match := _BLOCK.fullmatch(name)) and match[3] in _BLOCK_PARTS:
        return f"glpn.encoder.block.{int(match[1]) - 1}.{match[2]}.{_BLOCK_PARTS[match[3]]}.{match[4]}"
    if (match := _EMBED.fullmatch(name)) and match[2] in _EMBED_PARTS:
        return f"glpn.encoder.patch_embeddings.{int(match[1]) - 1}.{_EMBED_PARTS[match[2]]}.{match[3]}"
    if match := _NORM.fullmatch(name):
        return f"glpn.encoder.layer_norm.{int(match[1]) - 1}.{match[2]}"
    if match := _FUSION.fullmatch(name):
        return f"decoder.stages.{match[1]}.fusion.convolutional_layer{match[2]}.{match[3]}"
    if (match := _SKIP.fullmatch(name)) and match[1] in _DECODER_PARTS:
        return f"decoder.stages.{_DECODER_PARTS[match[1]]}.convolution.{match[2]}"
    if match := _HEAD.fullmatch(name):
        return f"head.head.{match[1]}"
    return None


def infer_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Reads the hyper-parameters off the shapes of tensors with HF's names, as `GLPNConfig` takes them.

    The number of heads and the strides leave no trace in shapes; GLPN's usual ones are taken.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        found = tensors.get(name)
        if found is None or found.ndim != axes:
            what = "missing" if found is None else f"of shape {tuple(found.shape)}"
            raise CheckpointError(
                f"the checkpoint's tensor {name} is {what}",
                expected=f"a GLPN checkpoint, where it has {axes} axes",
                fix="give a complete one, or a Hugging Face folder with its config.json",
            )
        return tuple(found.shape)

    stages = _count(tensors, "glpn.encoder.patch_embeddings.")
    if stages > _MOST_STAGES:
        raise CheckpointError(f"the checkpoint has {stages} stages", expected=f"at most {_MOST_STAGES}")
    embeds = [shape(f"glpn.encoder.patch_embeddings.{i}.proj.weight", 4) for i in range(stages)]
    blocks = [f"glpn.encoder.block.{i}." for i in range(stages)]
    sizes = [embed[0] for embed in embeds]
    hidden = [shape(f"{block}0.mlp.dense1.weight", 2)[0] for block in blocks]
    reductions = [f"{block}0.attention.self.sr.weight" for block in blocks]
    head = "head.head.0.weight"
    return {
        "num_channels": embeds[0][1] if embeds else 3,
        "num_encoder_blocks": stages,
        "depths": tuple(_count(tensors, block) for block in blocks),
        "sr_ratios": tuple(shape(name, 4)[2] if name in tensors else 1 for name in reductions),
        "hidden_sizes": tuple(sizes),
        "patch_sizes": tuple(embed[2] for embed in embeds),
        "strides": (4, 2, 2, 2)[:stages],
        "num_attention_heads": (1, 2, 5, 8)[:stages],
        "mlp_ratios": tuple(_ratio(a, b) for a, b in zip(hidden, sizes, strict=True)),
        "decoder_hidden_size": shape(head, 4)[0] if head in tensors else 64,
    }


def _ratio(hidden: int, size: int) -> float:
    ratio = hidden / max(size, 1)
    return int(ratio) if ratio.is_integer() else ratio


def _count(names: Mapping[str, Tensor], prefix: str) -> int:
    """How many different numbers follow the prefix."""
    rests = (name[len(prefix) :] for name in names if name.startswith(prefix))
    return len({rest.split(".", 1)[0] for rest in rests})
