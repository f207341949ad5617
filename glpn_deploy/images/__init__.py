"""From image files and arrays to the network's input."""
