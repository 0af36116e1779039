"""Human comparisons of answers: collected, kept, judged for what they are worth, exported."""
