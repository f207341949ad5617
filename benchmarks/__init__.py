"""Latency and size, measured so that a sceptic believes them."""
