"""What a definition's rules say: join, flow and project, and the language of their expressions."""
