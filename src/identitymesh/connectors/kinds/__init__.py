"""One module or package for each kind of connector; each names its ``KIND``."""
