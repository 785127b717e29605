"""The ground floor: records, the schema of the store, run folders, queries and the registry.

It knows nothing of models, of what makes runs, or of how they are shown.
"""
