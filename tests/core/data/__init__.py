"""Reading configuration: what YAML and JSON mean, and what no file can do."""
