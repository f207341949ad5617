"""What is measured: cases, their inputs, peers, and what bounds them."""
