"""The deployable folder: manifest, digests, engines with their sidecars."""
