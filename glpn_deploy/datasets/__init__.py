"""The data sets GLPN is trained and judged on, in their published layouts."""
