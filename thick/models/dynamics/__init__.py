"""Dynamics: RSSM and C-RSSM."""
