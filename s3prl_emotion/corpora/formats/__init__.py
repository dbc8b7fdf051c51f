"""Labels in other people's formats, each read into the rows of a label table."""
