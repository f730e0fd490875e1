"""Each file and folder in here is loaded by itself."""
