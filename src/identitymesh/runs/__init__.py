"""One run from start to end. Only this package knows the order of the stages."""
