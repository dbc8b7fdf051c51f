"""Draw figures as SVG for the page and for files of their own."""
