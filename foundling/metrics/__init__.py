"""What is measured of a model in training: perplexity, answers, pairs, continuations."""
