"""What `make bench` measures: ratios to limits that are measured in the same run, so that machines compare."""
