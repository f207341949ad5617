"""Rendered rooms: scenes laid out at random and traced into images with exact depth."""
