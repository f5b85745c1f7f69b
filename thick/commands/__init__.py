"""Subcommands of ``thick``, one light module each: heavy imports happen when one runs."""
