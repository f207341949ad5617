"""TensorRT engines at run time: plans, contexts, memory, device arrays."""
