"""Takes the pictures of docs/screenshots from real hosts in a real browser. Nothing here is part of runops."""
