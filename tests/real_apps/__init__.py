"""Apps from the package index, as they are, each with the lines of its page in docs/apps. `scripts/apps` runs these."""
