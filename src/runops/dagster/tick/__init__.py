"""One tick of a sensor: what it reads, remembers and reports."""
