"""The versioned messages that Remit's services exchange: facts (what happened) and commands (what somebody is asked to do)."""
