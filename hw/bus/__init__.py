"""AXI: register files, streams and masters."""
