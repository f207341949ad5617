"""What the models give: mappings as transformers' outputs are, which torch can take apart (pytrees)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class ModelOutput(dict[str, Any]):
    """A dict of what is not None, whose entries are attributes too; integers and slices index the values.

    As in transformers: iteration gives the keys, ``to_tuple`` the values, an unset field is None as an
    attribute and missing as a key. Subclasses annotate their fields.
    """

    def __init__(self, pairs: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), **fields: Any) -> None:
        super().__init__({k: v for k, v in dict(pairs, **fields).items() if v is not None})

    def __init_subclass__(cls) -> None:
        # Else torch.jit.trace takes it for a class to compile, not for the dict it is.
        torch.jit.ignore(cls)  # type: ignore[no-untyped-call]
        pytree.register_pytree_node(
            cls,
            _flatten,
            lambda values, keys: cls(zip(keys, values, strict=True)),
            serialized_type_name=f"{cls.__module__}.{cls.__name__}",
            flatten_with_keys_fn=_flatten_with_keys,
        )

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in type(self).__annotations__:
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def to_tuple(self) -> tuple[Any, ...]:
        """The values, in order."""
        return tuple(self.values())


def _flatten(output: ModelOutput) -> tuple[list[Any], list[str]]:
    return list(output.values()), list(output)


def _flatten_with_keys(output: ModelOutput) -> tuple[list[tuple[Any, Any]], list[str]]:
    return [(pytree.MappingKey(key), value) for key, value in output.items()], list(output)


class EncoderOutput(ModelOutput):
    """What the encoder gives.

    Attributes:
        last_hidden_state: ``(B, C, H/32, W/32)``.
        hidden_states: One ``(B, C_i, H_i, W_i)`` map per stage, if asked for.
        attentions: One ``(B, heads, H_i * W_i, keys)`` map per block, if asked for.
    """

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class DepthEstimatorOutput(ModelOutput):
    """What the depth network gives.

    Attributes:
        loss: SiLog loss, where labels were given.
        predicted_depth: ``(B, H, W)``, metres.
        hidden_states: As in `EncoderOutput`.
        attentions: As in `EncoderOutput`.
    """

    loss: Tensor | None
    predicted_depth: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


def depth_of(output: Any) -> Any:
    """The depth in what a network gave: its ``predicted_depth``, the first of a tuple, or itself."""
    if hasattr(output, "predicted_depth"):
        return output.predicted_depth
    if isinstance(output, Mapping):
        return output.get("predicted_depth")
    return output[0] if isinstance(output, (tuple, list)) and output else output
