"""Build time: one arrow a file, path in, path out."""
