"""Ranges of activations, measured on real images."""
