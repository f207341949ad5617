"""What says whether a graph is good enough: on images, over shapes, against ground truth, in time."""
