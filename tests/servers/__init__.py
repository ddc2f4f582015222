"""The real servers that tests talk to. Each one is a child process of the test session, in a folder of its own."""
