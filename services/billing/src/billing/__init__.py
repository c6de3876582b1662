"""Billing: what an organization has subscribed to, what it used, and what that cost."""
