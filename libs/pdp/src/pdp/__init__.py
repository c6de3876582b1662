"""Remit's policy decision point: the role matrix, the policy language, bundles and decisions."""
