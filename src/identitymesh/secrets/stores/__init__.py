"""Providers of secrets, one file for each; the contract is :mod:`identitymesh.secrets.providers`."""
