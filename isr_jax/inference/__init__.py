"""Trained models on pictures of any kind and size."""
