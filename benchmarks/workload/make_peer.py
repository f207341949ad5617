"""Makes one file as other software makes it; a program for the Python that has that software.

    PYTHON make_peer.py NAME SOURCE IMAGES TARGET

Reads nothing of this package, so that the other Python needs nothing of it. SOURCE is a checkpoint folder for
``optimum`` and Optimum's ``.onnx`` file for the others; IMAGES an ``.npy`` file, float32 (N, 3, H, W), as the
network takes them, which ranges are found on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def optimum(source: str, images: Any, target: str) -> None:
    """Optimum's export, as ``optimum-cli export onnx`` writes it."""
    from optimum.exporters.onnx import main_export

    main_export(source, output=Path(target).parent, task="depth-estimation", device="cpu")


def openvino_optimum(source: str, images: Any, target: str) -> None:
    """Optimum's export as OpenVINO's own file, in FP32."""
    import openvino

    openvino.save_model(openvino.Core().read_model(source), target, compress_to_fp16=False)


def nncf(source: str, images: Any, target: str) -> None:
    """Optimum's export in OpenVINO, quantized by NNCF as it advises for transformers."""
    import nncf as theirs
    import openvino

    data = theirs.Dataset([image[None] for image in images])
    model = theirs.quantize(
        openvino.Core().read_model(source),
        data,
        subset_size=len(images),
        model_type=theirs.ModelType.TRANSFORMER,
    )
    openvino.save_model(model, target, compress_to_fp16=False)


def ort_static(source: str, images: Any, target: str) -> None:
    """``onnxruntime.quantization``'s static QDQ form with its defaults for CPUs, weights by channel."""
    import onnxruntime.quantization as theirs
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(theirs.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> Any:
            image = next(self._left, None)
            return None if image is None else {"pixel_values": image[None]}

    prepared = f"{target}.prepared.onnx"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    theirs.quantize_static(
        prepared,
        target,
        Images(),
        quant_format=theirs.QuantFormat.QDQ,
        per_channel=True,
    )


def modelopt(source: str, images: Any, target: str) -> None:
    """nvidia-modelopt's INT8 for ONNX, the rest in FP32."""
    from modelopt.onnx.quantization import quantize

    quantize(
        source,
        quantize_mode="int8",
        calibration_data={"pixel_values": images},
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=target,
    )


MAKERS = {
    "optimum": optimum,
    "openvino-optimum": openvino_optimum,
    "nncf": nncf,
    "ort-static": ort_static,
    "modelopt": modelopt,
}

if __name__ == "__main__":
    import numpy

    name, source, images, target = sys.argv[1:]
    MAKERS[name](source, numpy.load(images), target)
