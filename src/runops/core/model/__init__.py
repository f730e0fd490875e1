"""What is known of a run and may happen to it: states, outcomes, verdicts, errors. It knows no network."""
