"""What this project claims of itself, measured: one command a report in ``benchmarks/results``."""
