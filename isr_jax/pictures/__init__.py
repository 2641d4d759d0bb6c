"""Photographs as arrays, and how good they are."""
