"""The named classes of each provider: data and a signature."""
