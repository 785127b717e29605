"""Tests of whole studies, from the command line on."""
