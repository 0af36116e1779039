"""What every room may use and what imports nothing of Foundling: settings, files, the machine."""
