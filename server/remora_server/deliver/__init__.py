"""Webhooks out: the processes and connections that bring activities to URLs of others."""
