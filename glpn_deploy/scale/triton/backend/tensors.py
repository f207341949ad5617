"""Tensors and answers of Triton's Python backend, for any numpy; importable only within its stub."""

from __future__ import annotations

import ctypes
import json
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from glpn_deploy.errors import GlpnError, ImageError, InputError
from glpn_deploy.images.options import ImageOptions

_USED = b"used_dltensor"  # DLPack's name of a capsule whose tensor was taken; the capsule keeps the pointer
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes, _rename.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_int


def array_of(request: Any, name: str) -> NDArray[Any]:
    """An input of a request, to be read only.

    Through DLPack: up to Triton 2.52 the backend's own ``as_numpy`` gives the first element over and over
    where numpy is 2 or later.
    """
    return np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))


def tensor_of(name: str, array: NDArray[Any]) -> Any:
    """An output's tensor, which keeps the array's memory.

    Through DLPack: up to Triton 2.52 ``Tensor(name, array)`` has 0 bytes where numpy is 2 or later, and the
    answer says success. The backend gives a used capsule a name that DLPack does not know, and numpy, which
    would then report an error each time, is given the right one.
    """
    array = np.ascontiguousarray(array)
    capsule: Any = (array if array.flags.writeable else array.copy()).__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    _rename(capsule, _USED)
    return tensor


def answers(requests: Sequence[Any], answer: Callable[[Any], list[Any]]) -> list[Any]:
    """One response a request: what ``answer`` gives, or why it failed, which leaves the others unharmed.

    An image that cannot be used is INVALID_ARGUMENT with the sentence that every command says.
    """
    return [_answer(request, answer) for request in requests]


def _answer(request: Any, answer: Callable[[Any], list[Any]]) -> Any:
    try:
        return pb_utils.InferenceResponse(output_tensors=answer(request))
    except (ImageError, InputError) as error:
        kind, message = pb_utils.TritonError.INVALID_ARG, str(error)
    except MemoryError:
        kind, message = pb_utils.TritonError.UNAVAILABLE, "there is not enough memory for this image."
    except GlpnError as error:
        kind, message = pb_utils.TritonError.INTERNAL, str(error)
    except Exception as error:  # raised, it would fail the other requests too
        pb_utils.Logger.log_error(traceback.format_exc())
        kind, message = pb_utils.TritonError.INTERNAL, f"{type(error).__name__}: {error}"
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, kind))


def log(line: str) -> None:
    """Writes a line to the server's log."""
    pb_utils.Logger.log_info(line)


class Settings:
    """What a model's config.pbtxt says to its model.py.

    Args:
        args: As the backend hands them to ``initialize``.

    Attributes:
        folder: The version's folder.
        name: Of the instance.
        images: How images are read and shown to the network.
    """

    def __init__(self, args: dict[str, str]) -> None:
        self.name = args["model_instance_name"]
        self.folder = Path(args["model_repository"], args["model_version"])
        self._config = json.loads(args["model_config"])
        images = json.loads(self.parameter("images", "{}"))
        size = images.pop("input_size", None)
        self.images = ImageOptions(input_size=tuple(size) if isinstance(size, list) else size, **images)

    def parameter(self, name: str, default: str) -> str:
        """A parameter's text."""
        return str(self._config["parameters"].get(name, {}).get("string_value", default))

    def output_type(self) -> Any:
        """numpy's type of the first output."""
        return pb_utils.triton_string_to_numpy(self._config["output"][0]["data_type"])
