"""What `make docs` adds to Sphinx: links that leave the folder docs, pages about every public name, and tables."""
