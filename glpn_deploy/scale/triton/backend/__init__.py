"""What runs within Triton's Python backend; a repository's model.py files import it."""
