"""The table of probes: what is measured of every model, each in one file."""
