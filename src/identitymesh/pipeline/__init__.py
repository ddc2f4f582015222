"""The stages: pure functions over batches. No I/O, no clock, no logging; no stage calls another."""
