"""Planners: pure functions and anytime searches over batches of sessions; torch only where it is used.

Symbols used in every shape comment: B sessions, N candidates, H steps of the horizon, A size of an action, S groups of
the stochastic state, K classes of a group, C size of the context, G number of high-level actions.
:mod:`thick.planning.settings` is free of torch, so that a service can check requests without it.
"""
