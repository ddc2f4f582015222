"""Identity Mesh: keeps people's accounts in step across HR databases, directories and SaaS."""

__version__ = "0.1.0"
