"""Tests of documents, notebooks and the contract of plug-ins."""
