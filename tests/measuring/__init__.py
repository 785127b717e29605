"""Tests of instruments, answers and statistics."""
