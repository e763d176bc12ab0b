"""The dashboard. Speaks to a node through fednode.AsyncClient alone."""
