"""Who starts things: the command line, the demo and the app's server."""
