"""Many runs as one task: what is asked of the whole, one row a run, and the ledger that is recorded. Pure."""
