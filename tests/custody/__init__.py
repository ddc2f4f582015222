"""Custody of secrets from the command line: the real product in a folder of its own."""
