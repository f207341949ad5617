"""Checkpoint files: found, downloaded, read strictly into tensors with HF's names."""
