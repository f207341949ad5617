"""Accuracy checks: each is asked whether one graph is good enough."""
