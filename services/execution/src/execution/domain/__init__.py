"""Pure rules of runs: definitions, graphs and their interpretation, states, caps, prices. No I/O and no clock."""
