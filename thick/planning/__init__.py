"""Planners: pure functions and anytime searches over batches of sessions, in arrays of numpy or torch.

Symbols used in every shape comment: B sessions, N candidates, H steps of the horizon, A size of an action, S groups of
the stochastic state, K classes of a group, C size of the context, G number of high-level actions.
Nothing here imports torch (:mod:`thick.arrays`). :mod:`thick.planning.settings` and :mod:`thick.planning.table` do not
even import numpy, so that a service can check requests before any model is at hand.
"""
