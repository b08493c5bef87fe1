"""The artifact: exported, checked for parity, documented, gated and registered."""
