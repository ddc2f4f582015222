"""One file for each command or group. Its first line is what ``identitymesh --help`` says of it.

A file has ``register(app)``, which adds the command to a Typer application. It is imported
only when its command is called, so it may import what it needs at its top, but for what is slow
(rich, database, rules): that waits until the command runs.
"""
