"""The network: configuration, encoder, decoder, and how a checkpoint becomes a model."""
