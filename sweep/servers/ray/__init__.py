"""Servers on other machines, asked through Ray actors that run beside them."""
