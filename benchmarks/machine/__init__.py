"""The machine under the measurement: identity, state, GPU, energy."""
