"""What an ONNX file says of itself, read without onnx."""
