"""Which words attend to which, and what a choice rests on."""
