"""The stages, as pure functions."""
