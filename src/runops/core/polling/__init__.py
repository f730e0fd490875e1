"""All waits of one event loop on one credential."""
