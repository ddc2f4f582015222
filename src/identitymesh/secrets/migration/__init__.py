"""Secrets move from one provider to another while everything runs."""
