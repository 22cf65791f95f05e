"""Abstract classes between Loss and the losses: what a family of losses shares, so that a loss says only what is its
own."""
