"""How is one step split over workers? The training loop; it knows torch, but not Ray."""
