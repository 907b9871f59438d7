"""Reports make tables and figures from finished runs."""
