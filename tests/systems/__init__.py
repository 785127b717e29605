"""Tests of the published systems."""
