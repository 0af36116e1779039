"""The server of models: the interfaces that clients of OpenAI and Anthropic speak."""
