"""How the LR picture came from the HR picture: y = H x + n."""
