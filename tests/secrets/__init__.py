"""Tests of identitymesh.secrets."""  # noqa: A005 -- only ever imported as tests.secrets
