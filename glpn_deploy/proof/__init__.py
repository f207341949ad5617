"""Did the depth change? Parity, artefact and engine checks, verification of a bundle."""
