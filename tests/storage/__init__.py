"""The product's database: one schema on SQLite and PostgreSQL."""
