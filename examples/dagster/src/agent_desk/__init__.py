"""An insurance agent that an outside engine prices, outside auditors attack, and outside services pay and speak for."""
