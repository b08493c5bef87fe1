"""Tables: rules between columns, cells of every kind, and files of rows."""
