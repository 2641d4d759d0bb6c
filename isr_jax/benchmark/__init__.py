"""Models on folders of pictures: rows, tables, plots and pages."""
