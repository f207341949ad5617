"""What a TensorRT build is told, how it is watched, and what it leaves behind."""
