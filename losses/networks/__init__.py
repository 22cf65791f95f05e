"""Networks that share one encoder between two or three inputs, with any loss of a fitting kind."""

from losses.networks.siamese import SiameseNetwork
from losses.networks.triplet import TripletNetwork

__all__ = ["SiameseNetwork", "TripletNetwork"]
