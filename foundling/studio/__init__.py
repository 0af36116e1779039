"""The web pages, and the HTTP interface that they and people's scripts use."""
