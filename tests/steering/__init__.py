"""Tests of steering, gates, probes and labels."""
