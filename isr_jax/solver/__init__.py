"""The unrolled solver and its prior; open unrolled.py first."""
