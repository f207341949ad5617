"""Is a graph of lower precision good enough: budget, images, shapes, ground truth, latency."""
