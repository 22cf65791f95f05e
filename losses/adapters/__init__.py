"""Bridges to other libraries, one file or folder for each; nothing else in this repository imports them."""
