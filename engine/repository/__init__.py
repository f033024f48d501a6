"""The models: which there are, in which versions, who may use them, which the replicas have open, and how they change."""
