"""Gateway's bus door: what follows here from what happened elsewhere."""
