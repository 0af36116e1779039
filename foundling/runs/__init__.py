"""What a run leaves on disk: settings, manifest, metrics, checkpoints, models."""
