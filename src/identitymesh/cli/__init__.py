"""The command line: a file for each command below ``commands``, one module that prints, one that maps errors."""
