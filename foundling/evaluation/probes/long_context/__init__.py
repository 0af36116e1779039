"""Long context: the loss by position, and what is found again far back."""
