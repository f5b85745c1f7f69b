"""Learners: parts that have losses, and recipes that say which parts make which learner."""
