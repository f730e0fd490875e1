"""What a provider is, as one value that is checked when it is made."""
