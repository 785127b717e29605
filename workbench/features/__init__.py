"""Features: what an SAE's directions fire on, what they write, and which values they carry."""
