"""Custody of credentials: references, sealing, keyrings, providers, ledger and audience."""
