"""The functions that expressions may call: a module for each family, one record for each function."""
