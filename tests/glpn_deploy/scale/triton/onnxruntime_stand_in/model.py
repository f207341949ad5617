"""A python-based backend in place of Triton's C++ one of ONNX Runtime, which the server's wheel lacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

from glpn_deploy.scale.triton.backend.tensors import array_of, tensor_of


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"], args["model_version"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(folder / config["default_model_filename"], options)
        (self._input,), (self._output,) = self._session.get_inputs(), self._session.get_outputs()

    def execute(self, requests):
        arrays = [
            array_of(request, self._input.name) for request in requests
        ]  # Triton puts like shapes together
        (found,) = self._session.run(None, {self._input.name: np.concatenate(arrays)})
        print(f"BATCH of {len(found)}", flush=True)
        ends = np.cumsum([len(array) for array in arrays])[:-1]
        parts = np.split(found, ends)
        return [
            pb_utils.InferenceResponse(output_tensors=[tensor_of(self._output.name, part)]) for part in parts
        ]
