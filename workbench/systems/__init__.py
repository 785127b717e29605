"""Published systems for measuring, locating, steering and reasoning about values, one room each."""
