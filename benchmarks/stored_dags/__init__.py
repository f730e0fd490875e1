"""DAGs for a database full of runs that were never begun."""
