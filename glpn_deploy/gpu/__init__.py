"""What the CUDA driver tells of the GPU, and what each TensorRT version can do."""
