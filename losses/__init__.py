from losses.core.registry import scan
scan(__name__, __path__)
