"""What changes keyrings on purpose: slots, joining, the recovery key, rotation of data keys."""
