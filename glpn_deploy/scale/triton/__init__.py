"""A bundle as a model repository of Triton Inference Server, and its KServe v2 client."""
