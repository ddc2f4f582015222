"""The engine from definition to target: real databases, a directory in memory that can misbehave, real SCIM."""
