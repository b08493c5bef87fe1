"""Labels from the teacher, with the probabilities it gave them."""
