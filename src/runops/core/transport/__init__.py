"""How one request gets to a service and its answer back: connections, limits, authentication, what an answer means."""
