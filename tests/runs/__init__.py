"""The decisions of a run, without a database."""
