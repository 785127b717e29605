"""Tests of the floor `feature_store`: records, runs, the store, plug-ins; and of settings."""
