"""Latency, memory and depth errors of backends and precisions, measured in rounds and reported."""
