"""Protectors of slot identities, one file for each."""
