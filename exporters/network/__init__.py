"""What is exported: a checkpoint or a network in memory, and its trace."""
