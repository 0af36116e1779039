"""Learning in context: tasks, examples in the prompt, curves."""
