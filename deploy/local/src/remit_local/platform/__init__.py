"""The whole of Remit on one machine: what a data folder holds, how it is prepared, and which processes run on it."""
