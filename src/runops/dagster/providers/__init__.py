"""The named resources of each provider."""
