"""What came back from the card, and the layer at fault."""
