"""How one loss is compared with a peer on one batch: equality first, then time, memory and growth."""
