"""The definition file (``mesh.yaml``): its shape, reading it with positions, checking, compiling, comparing."""
