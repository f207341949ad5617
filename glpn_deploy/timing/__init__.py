"""Measuring in turns, and what order statistics say of the samples."""
