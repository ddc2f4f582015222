"""Tables, queries and migrations: the only place that opens the product's own database."""
