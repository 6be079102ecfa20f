"""Results for readers: HTML pages, Markdown tables, terminal text."""
