"""Each peer's own side: a module that its environment runs, with nothing of Compass in it."""
