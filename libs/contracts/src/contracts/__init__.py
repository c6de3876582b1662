"""The versioned messages that services exchange: facts (what happened) and commands (what one is asked to do)."""
