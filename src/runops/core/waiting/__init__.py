"""One wait, submit or search as a flow of steps that takes no time itself. Clients and the poller drive it."""
