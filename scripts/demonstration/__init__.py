"""What the demonstration is made of: people, a definition, and a SCIM service that keeps what it is given."""
