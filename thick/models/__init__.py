"""World models: RSSM, C-RSSM, the high level of THICK, and the networks around them (torch).

Symbols used in every shape comment: B batch, T time, S groups of the stochastic state, K classes of
a group, H size of the deterministic state, C size of the context, A size of an action, E size of an
embedding, G number of high-level actions.
"""
