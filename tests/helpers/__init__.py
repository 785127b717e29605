"""What several tests need: small models, invented studies, endpoints, a browser."""
