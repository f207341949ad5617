"""Run time: one file a backend, arrays in, arrays out."""
