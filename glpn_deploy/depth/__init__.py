"""The result: metres, files, colours, points, and how wrong it is."""
