"""Labels from the teacher, with the probabilities it gave them; and from other voters, made into one answer."""
