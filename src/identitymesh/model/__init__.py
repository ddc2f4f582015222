"""Values only: what flows through the engine. No I/O, no clock, no logging."""
