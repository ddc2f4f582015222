"""Definition files: read, checked, compared."""
