"""The wait of one step for many external runs."""
