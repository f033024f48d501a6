"""A program for the command line, `python -m engine.tasks.tables`: tables become lines of JSON, and lines of JSON become tables.

It reads and writes pipes, so the command that has started it loads no numeric library. It is not a family of tasks: no replica
runs it.

    read FILE                    writes the rows of a file (the kinds of engine/tasks/ingestion/files.py) to stdout, a line for each
    read-arrow FILE              writes the rows of a Parquet or Arrow file to stdout as an Arrow stream
    write-arrow FORM FOLDER [--empty]  reads an Arrow stream from stdin, and writes its rows to stdout as arrow or parquet
    write FORM FOLDER [--empty]  reads the lines of a stream's answer from stdin, and writes them to stdout as csv or parquet

Lines and rows that are not written yet are kept in FOLDER, in a file without a name. With --empty, stdout is a file whose old
content goes when the first row is written. Exit code 1, with one line on stderr, when a file cannot be read or written.
"""
