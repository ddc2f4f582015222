"""A whole installation, as a person works with it: the real program, real databases, a real SCIM service."""
