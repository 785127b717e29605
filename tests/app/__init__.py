"""Tests of the app and its figures."""
