"""Write a report as HTML, Markdown, LaTeX and CSV."""
