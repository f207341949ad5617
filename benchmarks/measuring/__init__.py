"""How it is measured: workers, rounds, load, statistics of latencies."""
