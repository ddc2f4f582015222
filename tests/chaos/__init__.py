"""A run is killed between any two of its steps; the next one ends where an undisturbed one would have ended."""
