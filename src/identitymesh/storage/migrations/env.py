"""Runs migrations on the connection that the product hands in; see ``storage/schema.py``."""

from alembic import context

from identitymesh.storage.tables import every_table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=every_table(),
    render_as_batch=True,  # SQLite changes columns by copying the table
    transactional_ddl=True,
)
context.run_migrations()
