"""Students of tables: how cells become numbers, and models that are sums of small trees or of weights."""
