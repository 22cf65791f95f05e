"""What a configuration is before it is a loss: plain data, from mappings or from files, within limits."""
