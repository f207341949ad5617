"""What GLPNConfig is made of: what every configuration of transformers has, and the checks of its values."""
