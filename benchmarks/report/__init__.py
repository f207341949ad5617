"""A report as a person reads it: cells, charts, Markdown, one HTML page."""
