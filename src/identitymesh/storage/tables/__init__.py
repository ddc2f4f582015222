"""The schema, one module for each area; all on one ``MetaData`` (see :mod:`.base`)."""
