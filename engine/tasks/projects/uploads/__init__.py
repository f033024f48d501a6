"""Uploads: files of people become the canonical rows of one type of data (`read_upload`), and rows become datasets (`join`).

A file is read as columns of text and numbers (csv_file.py, workbook.py), its layout is told from its first rows (long.py, wide.py),
and every fault is noted with its row and column (problems.py): a file is taken as a whole or not at all.
"""
