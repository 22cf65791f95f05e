"""What writes the generated pages of ``docs/``, the README's table and the typed exports: ``python -m tools.pages``."""
