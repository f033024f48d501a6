"""Black-box tests of the embeddings surface."""
