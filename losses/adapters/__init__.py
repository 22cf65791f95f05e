"""Bridges to other libraries, one file for each; nothing else in this repository imports them."""
