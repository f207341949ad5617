"""ONNX graphs: written, read, cut and typed, for the arrows beside this folder."""
