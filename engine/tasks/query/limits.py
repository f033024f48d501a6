"""The limits of the language: how large a query may be, whatever the settings of the server say."""

# Levels of brackets in a text, and of nodes in a tree.
MAX_DEPTH = 64
# Nodes of a tree, with those of every use of a WITH, an alias or a subselect.
MAX_NODES = 4096
# Columns of one SELECT, also those that a star stands for.
MAX_OUTPUTS = 256
# Datasets of one query.
MAX_SOURCES = 16
# Integers have 64 bits.
MIN_INT, MAX_INT = -(2**63), 2**63 - 1
